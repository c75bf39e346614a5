import type { Command } from 'commander'
import type { TreeDiff } from '../../images/index.ts'
import type { TreeChange } from '../../transform/index.ts'
import { formatBytes } from '../format.ts'
import type { Host } from '../host.ts'
import { addPullOptions, type PullFlags, toImageOptions } from '../image-options.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'

interface Flags extends GlobalOptions, PullFlags {
  readonly times?: boolean
  readonly nameOnly?: boolean
  readonly stat?: boolean
  readonly exitCode?: boolean
}

/** As in docker and podman. */
const LETTERS = { added: 'A', removed: 'D', changed: 'C' } as const

export function addDiff(program: Command, host: Host): void {
  addPullOptions(addGlobalOptions(program.command('diff <image-or-container> [other]')))
    .description('show what a container has changed, or what differs between two images or containers')
    .option('--times', 'also compare the times of change')
    .option('--name-only', 'print only the paths')
    .option('--stat', 'print only the numbers')
    .option('--exit-code', 'exit with status 1 if there are differences')
    .addHelpText(
      'after',
      `
Each line is a path: A added, D removed, C changed, with what is different. Files are compared by content, owner, mode
and extended attributes. Of a removed directory only the directory is listed.
  loam diff web                          what container web has changed of its image
  loam diff app:1 app:2                  two images
  loam diff app:1 web                    an image and a container
  loam diff --stat app:1 app:2           numbers and sizes`,
    )
    .action(async (from: string, to: string | undefined, flags: Flags) => {
      await withSession(host, flags, async ({ loam, output, signal }) => {
        output.beginWork('compare files')
        const { times } = flags
        const diff = await loam.images.diff(from, to, { ...toImageOptions(flags), times, signal })
        output.result(diff, () => [
          ...(flags.stat === true ? [] : diff.changes.map((change) => line(change, to, flags))),
          ...(flags.stat === true ? summarize(diff) : []),
        ])
        for (const text of diff.notCompared) output.difference(text)
        if (diff.leftOut > 0) output.difference(`${diff.leftOut} more differences are not listed`)
        if (flags.exitCode === true && diff.added + diff.removed + diff.changed > 0) host.exitStatus = 1
      })
    })
}

/** Of a container alone, lines are as docker and podman write them, for scripts that read them. */
function line({ kind, path, ...change }: TreeChange, to: string | undefined, { nameOnly }: Flags): string {
  if (nameOnly === true) return path
  const start = `${LETTERS[kind]} ${path}`
  return to === undefined || kind !== 'changed' ? start : `${start}  (${describe(change)})`
}

function describe({
  differences,
  beforeBytes,
  afterBytes,
}: Pick<TreeChange, 'differences' | 'beforeBytes' | 'afterBytes'>): string {
  return differences
    .map((difference) =>
      difference === 'content' && beforeBytes !== afterBytes
        ? `content: ${formatBytes(beforeBytes)} → ${formatBytes(afterBytes)}`
        : difference,
    )
    .join(', ')
}

function summarize({ changes, added, removed, changed }: TreeDiff): string[] {
  const sum = (kind: TreeChange['kind'], of: (change: TreeChange) => number) =>
    changes.filter((change) => change.kind === kind).reduce((total, change) => total + of(change), 0)
  const grown = sum('changed', ({ beforeBytes, afterBytes }) => afterBytes - beforeBytes)
  const sign = grown < 0 ? '-' : '+'
  return [
    `added ${added}, ${formatBytes(sum('added', ({ afterBytes }) => afterBytes))}`,
    `removed ${removed}, at least ${formatBytes(sum('removed', ({ beforeBytes }) => beforeBytes))}`,
    `changed ${changed}, ${sign}${formatBytes(Math.abs(grown))}`,
  ]
}
