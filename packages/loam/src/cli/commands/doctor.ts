import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { type Examination, examine } from '../../app/index.ts'
import { readConfiguration } from '../../config/index.ts'
import { formatPlatform } from '../../image/index.ts'
import { hostPlatform } from '../../linux/index.ts'
import type { NodeReport } from '../../nodes/index.ts'
import { askDaemonStatus } from '../daemon-status.ts'
import { formatBytes } from '../format.ts'
import { addGlobalOptions, configurationInput, type GlobalOptions, outputOf } from '../session.ts'
import type { Host } from '../host.ts'

const LIMITS = {
  project: 'by project quotas of the file system',
  subvolume: 'by quotas of btrfs subvolumes',
  image: 'by a file system in a file (the file system of the store enforces no quotas)',
} as const

interface Flags extends GlobalOptions {
  /** True without the path of a file. */
  readonly containerd?: string | true
  readonly docker?: string | true
}

export function addDoctor(program: Command, host: Host): void {
  addGlobalOptions(program.command('doctor'))
    .description('report which backends work on this machine and why others do not; changes nothing')
    .option('--containerd [config]', 'check the configuration of containerd (/etc/containerd/config.toml)')
    .option('--docker [config]', 'check the configuration of Docker (/etc/docker/daemon.json)')
    .action(async (flags: Flags) => {
      // The check tries what this process may do, which takes a while.
      host.requireOwnProcess()
      if (flags.containerd !== undefined || flags.docker !== undefined) await reportClients(host, flags)
      else await reportMachine(host, flags)
    })
}

async function reportMachine(host: Host, flags: GlobalOptions): Promise<void> {
  const report = await examine(configurationInput(host, flags))
  outputOf(host, flags).result(report, () => describe(report))
  const hasDefault = report.backends.some(({ isDefault }) => isDefault)
  if (report.store.problems.length > 0 || !hasDefault) host.exitStatus = 1
}

function describe(report: Examination): string[] {
  const { fileSystem, exists, problems, notes } = report.store
  return [
    `kernel     ${report.kernel}`,
    `platform   ${formatPlatform(report.platform)}`,
    `node       ${report.node}`,
    ...describeUser(report),
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
    `size limit ${describeLimits(report.sizeLimits)}`,
    `lazy pulls ${report.lazy.isSupported ? 'work' : `do not work: ${report.lazy.reason}`}`,
    `gzip       ${report.inflate === 'isal' ? 'ISA-L' : 'zlib; install libisal2 (ISA-L) to decompress several times faster'}`,
    `runtime    ${report.runtime.isSupported ? (report.runtime.note ?? 'works') : report.runtime.reason}`,
  ]
}

/** What a user who is not root has, and what would give more. */
function describeUser({ rootless }: Examination): string[] {
  if (rootless === undefined) return ['user       root']
  const { uid, ids, why } = rootless
  const reason = why === undefined ? '' : `: ${why}`
  switch (ids) {
    case 'subordinate':
      return [`user       ${uid}, not root: a user namespace with subordinate IDs keeps the owners of files`]
    case 'single':
      return [
        `user       ${uid}, not root: a user namespace with one ID${reason}; owners of files are recorded`,
        '           more: apt-get install uidmap; usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER',
      ]
    case 'none':
      return [
        `user       ${uid}, not root: no user namespace${reason}; only copies, owners of files are recorded`,
      ]
  }
}

function describeLimits(probe: Examination['sizeLimits']): string {
  if (!probe.isSupported) return `does not work: ${probe.reason}`
  return LIMITS[probe.method]
}

/** Reports whether the clients of the snapshotter are configured for it. */
async function reportClients(host: Host, flags: Flags): Promise<void> {
  const {
    root,
    state,
    containerd_socket: containerdSocket,
  } = readConfiguration(configurationInput(host, flags)).values
  // Loaded here, so that other commands do not wait for it.
  const { examineContainerd, examineDocker, hasProblems } = await import('../../nodes/index.ts')
  const reports: { containerd?: NodeReport; docker?: NodeReport } = {}
  if (flags.containerd !== undefined) {
    const status = await askDaemonStatus(join(state, 'loamd.sock'))
    const sockets = typeof status === 'string' ? [] : status.sockets
    reports.containerd = await examineContainerd({
      config: fileOf(flags.containerd, host),
      root,
      socket: sockets.find(({ name }) => name === 'snapshotter')?.path,
      imageSocket: sockets.find(({ name }) => name === 'image-service')?.path,
      containerdSocket,
      platform: hostPlatform(),
    })
  }
  if (flags.docker !== undefined) reports.docker = await examineDocker(fileOf(flags.docker, host))
  const all = Object.values(reports)
  outputOf(host, flags).result(reports, () => all.flatMap(describeClient))
  if (all.some(hasProblems)) host.exitStatus = 1
}

function fileOf(flag: string | true, host: Host): string | undefined {
  return flag === true ? undefined : resolve(host.cwd, flag)
}

function describeClient({ config, findings }: NodeReport): string[] {
  return [
    `config     ${config}`,
    ...findings.flatMap(({ status, what, message, write, run }) => [
      `${status.padEnd(10)} ${what}: ${message}`,
      ...(write === undefined ? [] : ['           write:', ...write.trimEnd().split('\n').map(indent)]),
      ...(run === undefined ? [] : [`           run: ${run}`]),
    ]),
  ]
}

function indent(line: string): string {
  return `             ${line}`.trimEnd()
}
