import type { Command } from 'commander'
import { examine } from '../../app/index.ts'
import { formatPlatform } from '../../image/index.ts'
import { formatBytes } from '../format.ts'
import { addGlobalOptions, configurationInput, type GlobalOptions, outputOf } from '../session.ts'
import type { Host } from '../host.ts'

export function addDoctor(program: Command, host: Host): void {
  addGlobalOptions(program.command('doctor'))
    .description('report which backends work on this machine and why others do not; changes nothing')
    .action(async (flags: GlobalOptions) => {
      // The check tries what this process may do, which takes a while.
      host.requireOwnProcess()
      const report = await examine(configurationInput(host, flags))
      const { fileSystem, exists, problems, notes } = report.store
      outputOf(host, flags).result(report, () => [
        `kernel     ${report.kernel}`,
        `platform   ${formatPlatform(report.platform)}`,
        `node       ${report.node}`,
        `user       ${report.isRoot ? 'root' : 'not root'}`,
        `store      ${report.root}${exists ? '' : ' (not created yet)'}`,
        `disk       ${fileSystem.type} at ${fileSystem.mountPoint}, ${formatBytes(fileSystem.freeBytes)} free`,
        ...problems.map((problem) => `           unsuitable: ${problem}`),
        ...notes.map((note) => `           note: ${note}`),
        ...report.backends.map(({ name, probe, isDefault }) => {
          const verdict = probe.isSupported
            ? `works${probe.note === undefined ? '' : ` (${probe.note})`}`
            : `does not work: ${probe.reason}`
          return `${name.padEnd(10)} ${verdict}${isDefault ? ', default' : ''}`
        }),
        `gzip       ${report.inflate === 'isal' ? 'ISA-L' : 'zlib; install libisal2 (ISA-L) to decompress several times faster'}`,
        `runtime    ${report.runtime.isSupported ? (report.runtime.note ?? 'works') : report.runtime.reason}`,
      ])
      if (problems.length > 0 || !report.backends.some(({ isDefault }) => isDefault)) host.exitStatus = 1
    })
}
