import { type Command, Option } from 'commander'
import { IMAGE_TYPES } from '../../metadata/index.ts'
import { formatBytes } from '../format.ts'
import { repeated } from '../image-options.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'

interface Flags extends GlobalOptions {
  readonly dryRun?: boolean
  readonly exclude?: readonly string[]
  readonly imageType?: string
}

export function addPrune(program: Command): void {
  addGlobalOptions(program.command('prune'))
    .description('remove the images that no container uses, and the layers that no image needs')
    .option('--dry-run', 'say what would go, and remove nothing')
    .addOption(repeated('--exclude <image>', 'image to keep; may be repeated'))
    .addOption(new Option('--image-type <type>', 'images of one type alone').choices(IMAGE_TYPES))
    .action(async (flags: Flags) => {
      await withSession(flags, async ({ loam, output }) => {
        const pruned = loam.prune({
          dryRun: flags.dryRun ?? false,
          excluded: flags.exclude ?? [],
          type: IMAGE_TYPES.find((type) => type === flags.imageType),
        })
        const bytes = pruned.layers.reduce((sum, { tarBytes }) => sum + tarBytes, 0)
        output.result({ ...pruned, dryRun: flags.dryRun ?? false, layerBytes: bytes }, () => [
          ...pruned.images.map(({ digest, names }) => `image ${names[0] ?? digest}`),
          ...pruned.layers.map(({ diffId, tarBytes }) => `layer ${diffId} ${formatBytes(tarBytes)}`),
          `${flags.dryRun === true ? 'would free' : 'freed'} at least ${formatBytes(bytes)}`,
        ])
      })
    })
}
