import { type Command, Option } from 'commander'
import { IMAGE_TYPES } from '../../metadata/index.ts'
import type { PruneResult } from '../../stores/index.ts'
import { formatBytes, shortDigest } from '../format.ts'
import { repeated } from '../image-options.ts'
import { addGlobalOptions, type GlobalOptions, type Session, withSession } from '../session.ts'
import type { Host } from '../host.ts'
import { completes } from '../completion/values.ts'

interface Flags extends GlobalOptions {
  readonly all?: boolean
  readonly local?: boolean
  readonly dryRun?: boolean
  readonly exclude?: readonly string[]
  readonly imageType?: string
  readonly yes?: boolean
  readonly force?: boolean
  readonly verbose?: boolean
}

/** Number of names that are listed; the others are only counted. */
const MAX_NAMES = 5

export function addPrune(program: Command, host: Host): void {
  addGlobalOptions(program.command('prune'))
    .description('remove unnamed images that no container uses, and layers that no image uses')
    .option('-a, --all', 'also remove named images that no container uses (default when --exclude is given)')
    .option(
      '--local',
      'also remove images without a known source: committed, put, imported, or read from a file',
    )
    .option('--dry-run', 'report what would be removed, without removing it')
    .addOption(completes(repeated('--exclude <image>', 'image to keep; repeatable'), 'images'))
    .addOption(new Option('--image-type <type>', 'remove images of this type only').choices(IMAGE_TYPES))
    .option('-y, --yes', 'skip the confirmation that a terminal is asked for')
    .addOption(new Option('-f, --force', 'the same as --yes').hideHelp())
    .option('--verbose', 'list each image and layer')
    .addHelpText(
      'after',
      `
Images in use by a container are always kept. \`loam images\` marks those without a known source as local.
  loam prune                        unnamed images and unused layers
  loam prune --all                  everything that can be refetched
  loam prune --all --local          all that no container uses
  loam prune --exclude debian:12    everything that can be refetched, but for one
Where image_gc_config is set, as on a Mesos agent, --all is the default.`,
    )
    .action(async (flags: Flags) => {
      await withSession(host, flags, async (session) => {
        const { loam, output } = session
        const options = {
          all: flags.all,
          local: flags.local ?? false,
          excluded: flags.exclude ?? [],
          type: IMAGE_TYPES.find((type) => type === flags.imageType),
        }
        const isDryRun = flags.dryRun ?? false
        if (!isDryRun && isAsking(session, flags)) {
          const would = await loam.images.prune({ ...options, dryRun: true })
          if (would.images.length + would.layers.length > 0 && !(await confirm(session, would))) {
            output.note('nothing removed')
            return
          }
        }
        output.beginWork(isDryRun ? 'look for what is not used' : 'remove what is not used')
        // It removes containers whose monitors could not.
        if (!isDryRun) await loam.containers.processes.list()
        const pruned = await loam.images.prune({ ...options, dryRun: isDryRun })
        const layerBytes = bytesOf(pruned)
        output.result({ ...pruned, dryRun: isDryRun, layerBytes }, () => [
          ...(flags.verbose === true ? listAll(pruned) : []),
          ...summarize(pruned, isDryRun),
          ...pruned.failed.map(({ what, reason }) => `failed ${what}: ${reason}`),
        ])
        if (pruned.failed.length > 0) host.exitStatus = 1
      })
    })
}

function isAsking({ host, output }: Session, { yes, force }: Flags): boolean {
  return yes !== true && force !== true && !output.json && host.stdin.isTerminal && host.stderr.isTerminal
}

async function confirm({ host, output, signal }: Session, would: PruneResult): Promise<boolean> {
  for (const line of summarize(would, true)) output.question(line)
  const answer = await host.ask('Go on? [y/N] ', signal)
  return /^y(?:es)?$/i.test(answer.trim())
}

function bytesOf({ layers }: PruneResult): number {
  return layers.reduce((sum, { tarBytes }) => sum + tarBytes, 0)
}

function nameOf({ digest, names }: PruneResult['images'][number]): string {
  return names[0] ?? shortDigest(digest)
}

function listAll({ images, layers }: PruneResult): string[] {
  return [
    ...images.map((image) => `image ${nameOf(image)}`),
    ...layers.map(({ diffId, tarBytes }) => `layer ${diffId} ${formatBytes(tarBytes)}`),
  ]
}

/** Returns three lines, however many objects were removed. */
function summarize(result: PruneResult, isDryRun: boolean): string[] {
  const { images, layers, blobs } = result
  const [removed, freed] = isDryRun ? ['would remove', 'would free'] : ['removed', 'freed']
  const names = images.slice(0, MAX_NAMES).map(nameOf)
  if (images.length > MAX_NAMES) names.push(`${images.length - MAX_NAMES} more`)
  return [
    `${removed} ${count(images.length, 'image')}${names.length === 0 ? '' : `: ${names.join(', ')}`}`,
    `${removed} ${count(layers.length, 'layer')}${isDryRun ? '' : ` and ${count(blobs.length, 'document')}`}`,
    `${freed} at least ${formatBytes(bytesOf(result))}`,
  ]
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}
