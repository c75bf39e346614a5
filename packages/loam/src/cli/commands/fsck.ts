import type { Command } from 'commander'
import { formatBytes } from '../format.ts'
import { addFetchOptions, type FetchFlags, toFetchOptions } from '../image-options.ts'
import { PullProgress } from '../progress.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import type { Host } from '../host.ts'

interface Flags extends FetchFlags, GlobalOptions {
  readonly repair?: boolean
}

export function addFsck(program: Command, host: Host): void {
  addFetchOptions(addGlobalOptions(program.command('fsck')))
    .description('verify every layer against its digest and everything derived from the layers')
    .option('--repair', 'repair only what is damaged, by refetching or rebuilding it')
    .addHelpText('after', '\nExits with status 1 if damage remains.')
    .action(async (flags: Flags) => {
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const progress = new PullProgress(output, 'verify the store')
        const report = await loam.store.fsck({
          ...toFetchOptions(flags),
          repair: flags.repair ?? false,
          signal,
          onProgress: (event) => {
            progress.onEvent({
              kind: 'work',
              ...event,
              what: `check ${event.what.replace(/sha256:(.{12}).*/, '$1')}`,
            })
          },
        })
        progress.summarize('verified')
        const { checked, problems, deniedIndexes } = report
        output.result(report, () => [
          ...problems.map(({ what, problem, repaired, advice }) => {
            const outcome = repaired === undefined ? 'NOT REPAIRED' : `repaired: ${repaired}`
            return `${what}: ${problem}; ${outcome}${advice === undefined ? '' : ` (${advice})`}`
          }),
          ...deniedIndexes.map(
            ({ indexDigest, reason }) =>
              `lazy index ${indexDigest} is denied: ${reason} (loam index --allow ${indexDigest} uses it again)`,
          ),
          `checked ${checked.layers} layers (${formatBytes(checked.tarBytes)}), ${checked.images} images, ${checked.mergedImages} merged, ${checked.rootfses} root filesystems: ${problems.length === 0 ? 'no problems' : `${problems.length} problems`}`,
        ])
        if (problems.some(({ repaired }) => repaired === undefined)) host.exitStatus = 1
      })
    })
}
