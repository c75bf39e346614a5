import type { Command } from 'commander'
import { formatBytes } from '../format.ts'
import { addFetchOptions, type FetchFlags, toFetchOptions } from '../image-options.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'

interface Flags extends FetchFlags, GlobalOptions {
  readonly repair?: boolean
}

export function addFsck(program: Command): void {
  addFetchOptions(addGlobalOptions(program.command('fsck')))
    .description('check every layer against its digest, and everything else against the layers')
    .option('--repair', 'fetch or make again just what is broken')
    .addHelpText('after', '\nEnds with 1 when something is broken and was not repaired.')
    .action(async (flags: Flags) => {
      await withSession(flags, async ({ loam, output, signal }) => {
        const report = await loam.store.fsck({
          ...toFetchOptions(flags),
          repair: flags.repair ?? false,
          signal,
          onCheck: (what) => {
            output.note(`checking ${what}`)
          },
        })
        const { checked, problems } = report
        output.result(report, () => [
          ...problems.map(({ what, problem, repaired, advice }) => {
            const outcome = repaired === undefined ? 'NOT REPAIRED' : `repaired: ${repaired}`
            return `${what}: ${problem}; ${outcome}${advice === undefined ? '' : ` (${advice})`}`
          }),
          `checked ${checked.layers} layers (${formatBytes(checked.tarBytes)}), ${checked.images} images, ${checked.mergedImages} merged, ${checked.rootfses} root filesystems: ${problems.length === 0 ? 'all is well' : `${problems.length} problems`}`,
        ])
        if (problems.some(({ repaired }) => repaired === undefined)) process.exitCode = 1
      })
    })
}
