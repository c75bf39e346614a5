import type { Command } from 'commander'
import { formatPlatform } from '../../image/index.ts'
import { addGlobalOptions, type GlobalOptions, withSession } from '../session.ts'

export function addDoctor(program: Command): void {
  addGlobalOptions(program.command('doctor'))
    .description('say what this machine can do, backend by backend, and why not')
    .action(async (flags: GlobalOptions) => {
      await withSession(flags, async ({ loam, output }) => {
        const report = loam.doctor()
        output.result(report, () => [
          `kernel     ${report.kernel}`,
          `platform   ${formatPlatform(report.platform)}`,
          `node       ${report.node}`,
          `user       ${report.isRoot ? 'root' : 'not root'}`,
          `store      ${report.root}`,
          ...report.backends.map(({ name, probe, isDefault }) => {
            const verdict = probe.isSupported
              ? `works${probe.note === undefined ? '' : ` (${probe.note})`}`
              : `does not work: ${probe.reason}`
            return `${name.padEnd(10)} ${verdict}${isDefault ? ', taken by default' : ''}`
          }),
          `gzip       ${report.inflate === 'isal' ? 'ISA-L' : 'zlib; with libisal2 (ISA-L) installed it goes several times faster'}`,
          `runtime    ${report.runtime.isSupported ? (report.runtime.note ?? 'works') : report.runtime.reason}`,
        ])
        if (!report.backends.some(({ isDefault }) => isDefault)) process.exitCode = 1
      })
    })
}
