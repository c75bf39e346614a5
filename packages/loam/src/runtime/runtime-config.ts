/*
 * The config.json of an OCI bundle (runtime-spec 1.0.2), from an image's defaults and a user's request. The image decides
 * only data of the process: its arguments, environment, directory and user. It cannot name a path, a mount, a hook or a right
 * of the host.
 */
import type { IdMapping, IdRange } from '../linux/index.ts'
import type { Confinement } from './confinement.ts'
import { kernelMounts, type RuntimeMount } from './mounts.ts'
import type { Network } from './network.ts'
import { consoleOf, type TerminalSize } from './terminal-size.ts'
import type { ResolvedUser } from './users.ts'

export interface RuntimeConfigInput {
  readonly rootfsPath: string
  readonly isReadOnly: boolean
  readonly args: readonly string[]
  readonly env: readonly string[]
  readonly cwd: string
  readonly user: ResolvedUser
  readonly terminal: boolean
  /** Size of the terminal at the start; undefined if it is not known. */
  readonly terminalSize: TerminalSize | undefined
  readonly hostname: string
  readonly mounts: readonly RuntimeMount[]
  readonly confinement: Confinement
  /** The user namespace that the container gets. Undefined: none, or one of the user who is not root. */
  readonly idMapping: IdMapping | undefined
  /** Notes for programs that read the configuration. */
  readonly annotations: Readonly<Record<string, string>>
  /** Name of the container's cgroup, beneath this process's own; unique on this machine. */
  readonly cgroup: string
}

/** The masked paths of docker and podman combined: they reveal information about the machine or its users, or reach its hardware. */
const MASKED_PATHS: readonly string[] = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/sys/devices/virtual/powercap',
  '/sys/firmware',
  '/sys/fs/selinux',
]

const READ_ONLY_PATHS: readonly string[] = [
  '/proc/bus',
  '/proc/fs',
  '/proc/irq',
  '/proc/sys',
  '/proc/sysrq-trigger',
]

/** Returns the configuration as the value that JSON.stringify writes. */
export function createRuntimeConfig(input: RuntimeConfigInput): Record<string, unknown> {
  return {
    ociVersion: '1.0.2',
    root: { path: input.rootfsPath, readonly: input.isReadOnly },
    hostname: input.hostname,
    annotations: input.annotations,
    process: createProcess(input),
    mounts: [...kernelMounts({ ...input.confinement, idMapping: input.idMapping }), ...input.mounts],
    linux: createLinux(input),
  }
}

function createProcess({ user, confinement, ...input }: RuntimeConfigInput): Record<string, unknown> {
  const { capabilities, noNewPrivileges, pidsLimit, owner, namespace } = confinement
  const { bounding, added } = capabilities
  const isRootUser = user.uid === 0
  // A user other than root keeps only ambient capabilities over execve(2), and these need to be inheritable.
  const own = isRootUser ? bounding : added
  const kept = isRootUser ? [] : added
  return {
    ...consoleOf(input.terminal, input.terminalSize),
    user: {
      uid: user.uid,
      gid: user.gid,
      // A user who is not root has no other groups to give.
      ...(owner === undefined ? { additionalGids: [...new Set([user.gid, ...user.additionalGids])] } : {}),
    },
    args: input.args,
    env: input.env,
    cwd: input.cwd,
    capabilities: { bounding, effective: own, permitted: own, inheritable: kept, ambient: kept },
    noNewPrivileges,
    ...(pidsLimit?.by === 'user' ? { rlimits: [nprocLimit(pidsLimit.count)] } : {}),
    // Only root may lower its chance of being killed by the kernel.
    ...(owner === undefined && namespace === undefined ? { oomScoreAdj: 0 } : {}),
  }
}

/** Of the kernel's scheduler, in microseconds: its default. */
const CPU_PERIOD_US = 100_000

function nprocLimit(count: number): Record<string, unknown> {
  return { type: 'RLIMIT_NPROC', hard: count, soft: count }
}

/** Without a limit of its own a group may take all swap. */
function memoryOf({ memoryBytes: limit, memoryAndSwapBytes: swap }: Confinement): Record<string, unknown> {
  if (limit === undefined) return {}
  return { memory: swap === undefined ? { limit } : { limit, swap } }
}

function createLinux({ confinement, cgroup, idMapping }: RuntimeConfigInput): Record<string, unknown> {
  const { network, owner, namespace, pidsLimit, cpus, seccomp } = confinement
  return {
    resources: {
      devices: [{ allow: false, access: 'rwm' }],
      ...(pidsLimit?.by === 'group' ? { pids: { limit: pidsLimit.count } } : {}),
      ...memoryOf(confinement),
      ...(cpus === undefined
        ? {}
        : { cpu: { period: CPU_PERIOD_US, quota: Math.round(cpus * CPU_PERIOD_US) } }),
    },
    namespaces: [
      ...['pid', 'ipc', 'uts', 'mount', 'cgroup'].map((type) => ({ type })),
      ...namespaceOf(network),
      ...(owner === undefined && idMapping === undefined ? [] : [{ type: 'user' }]),
    ],
    // Only root of the machine may create it.
    ...(owner === undefined && namespace === undefined ? { cgroupsPath: cgroup } : {}),
    ...(owner === undefined ? {} : { uidMappings: [mapRoot(owner.uid)], gidMappings: [mapRoot(owner.gid)] }),
    ...(idMapping === undefined
      ? {}
      : { uidMappings: idMapping.uids.map(toRange), gidMappings: idMapping.gids.map(toRange) }),
    ...(seccomp === undefined ? {} : { seccomp }),
    maskedPaths: MASKED_PATHS,
    readonlyPaths: READ_ONLY_PATHS,
  }
}

function namespaceOf(network: Network): Record<string, string>[] {
  switch (network.kind) {
    case 'none':
      return [{ type: 'network' }]
    case 'host':
      return []
    case 'namespace':
      return [{ type: 'network', path: network.path }]
  }
}

function toRange({ container, host, length }: IdRange): Record<string, number> {
  return { containerID: container, hostID: host, size: length }
}

function mapRoot(hostId: number): Record<string, number> {
  return { containerID: 0, hostID: hostId, size: 1 }
}
