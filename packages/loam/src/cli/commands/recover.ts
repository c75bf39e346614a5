import { type Command, Option } from 'commander'
import { addFetchOptions, type FetchFlags, toFetchOptions } from '../image-options.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'
import type { Host } from '../host.ts'
import { completes } from '../completion/values.ts'

interface Flags extends FetchFlags, GlobalOptions {
  readonly known?: string
}

export function addRecover(program: Command, host: Host): void {
  addFetchOptions(addGlobalOptions(program.command('recover')))
    .description('clean up after a crash, remount after a reboot')
    .addOption(
      completes(
        new Option(
          '--known <id,...>',
          'containers to keep; all others are destroyed (default: keep all complete containers)',
        ),
        (typed) => ({ kept: typed.slice(0, typed.lastIndexOf(',') + 1), kinds: ['containers'] }),
      ),
    )
    .addHelpText(
      'after',
      `
Incomplete root filesystems are removed. Complete ones are remounted if they are not mounted, or if
something else is mounted in their place. What was never recorded is removed. Work of running processes is left
alone. Safe to repeat.`,
    )
    .action(async (flags: Flags) => {
      await withSession(host, flags, async ({ loam, output, signal }) => {
        const known = flags.known?.split(',').filter((id) => id !== '')
        const report = await loam.recover({ ...toFetchOptions(flags), known, signal })
        output.result(report, () => [
          ...report.poisoned.map(
            (path) =>
              `unmounted ${path}: it may have shown wrong data while nothing served its partial layers`,
          ),
          ...report.restored.map((path) => `restored ${path}`),
          ...report.undone.map((path) => `undone ${path}`),
          ...report.swept.map((path) => `swept ${path}`),
          ...report.quarantined.map(({ what, reason }) => `quarantined ${what}: ${reason}`),
          ...report.failed.map(({ what, reason }) => `failed ${what}: ${reason}`),
          `kept ${report.kept.length}, restored ${report.restored.length}, undone ${report.undone.length}, swept ${report.swept.length}, quarantined ${report.quarantined.length}, failed ${report.failed.length}`,
        ])
        if (report.failed.length > 0) host.exitStatus = 1
      })
    })
}
