/*
 * The confinement of a container: one plan, made from the user's request and from what this machine and its user allow,
 * before anything is pulled or created. runtime-config.ts writes it into the configuration.
 */
import { LoamError } from '../errors/index.ts'
import type { IdMapping, LimitController } from '../linux/index.ts'
import { type CapabilitySets, mergeCapabilities } from './capabilities.ts'
import { type Network, parseNetwork } from './network.ts'
import { createSeccomp, type RuntimeSeccomp, type SeccompProfile, type SeccompTarget } from './seccomp.ts'
import { DEFAULT_SECCOMP } from './seccomp-default.ts'
import { parseSecurityOptions } from './security-options.ts'

/** The options of `loam run`, with podman's meaning. */
export interface ConfinementOptions {
  /** `none`, `host` or `ns:PATH`. Undefined: none. */
  readonly network?: string | undefined
  /** Capabilities to add to the default ones; `ALL` for all. */
  readonly capAdd?: readonly string[] | undefined
  /** Capabilities to drop from the default ones; `ALL` for all. */
  readonly capDrop?: readonly string[] | undefined
  /** `seccomp=FILE|unconfined`, `no-new-privileges=false`. */
  readonly securityOpts?: readonly string[] | undefined
  /** Maximum number of processes; 0 or -1: no limit. Undefined: 2048, as in podman. */
  readonly pidsLimit?: number | undefined
  /**
   * Maximum memory in bytes, at least 4 MiB, and of swap as much again, where the kernel counts swap; what goes beyond it is killed by the kernel.
   * Undefined: no limit.
   */
  readonly memoryBytes?: number | undefined
  /** Maximum processor time, as a number of processors: 0.5 for half of one. Undefined: no limit. */
  readonly cpus?: number | undefined
}

/** The user who runs containers, and the rights that containers may get from it. */
export interface HostRights {
  /** Architecture in OCI's words. */
  readonly architecture: string
  readonly kernel: string
  /** Its bounding set. */
  readonly capabilities: readonly string[]
  readonly uid: number
  readonly gid: number
  /** The IDs of the user namespace that it is root of; undefined for root of the machine and for other users. */
  readonly namespace?: IdMapping | undefined
  /** The controllers that it may limit a cgroup with (cgroups(7)). */
  readonly limits: readonly LimitController[]
}

export interface Confinement {
  readonly network: Network
  readonly capabilities: CapabilitySets
  /** Undefined: none. */
  readonly seccomp: RuntimeSeccomp | undefined
  readonly noNewPrivileges: boolean
  /** `group` counts the container's processes, `user` those of its user in its namespace. Undefined: no limit. */
  readonly pidsLimit: { readonly by: 'group' | 'user'; readonly count: number } | undefined
  /** Maximum memory in bytes. Undefined: no limit. */
  readonly memoryBytes: number | undefined
  /** Maximum memory and swap together in bytes. Undefined: no limit, or swap is not counted. */
  readonly memoryAndSwapBytes: number | undefined
  /** Maximum number of processors. Undefined: no limit. */
  readonly cpus: number | undefined
  /** The user and group on this machine that root in the container is mapped to, if they are not root. */
  readonly owner: { readonly uid: number; readonly gid: number } | undefined
  /** The user namespace of the container, in that of Loam; undefined for none, or for one with `owner` alone. */
  readonly namespace: IdMapping | undefined
  /** Notes for the user. */
  readonly notes: readonly string[]
}

const DEFAULT_PIDS_LIMIT = 2048
/** PID_MAX_LIMIT of linux/threads.h. */
const MAX_PIDS = 1 << 22

/** Plans a container's confinement. `readProfile` reads a seccomp profile. @throws USAGE, and the errors of `readProfile` */
export function planConfinement(
  options: ConfinementOptions,
  host: HostRights,
  readProfile: (path: string) => SeccompProfile,
): Confinement {
  const { seccomp, noNewPrivileges } = parseSecurityOptions(options.securityOpts ?? [])
  const capabilities = mergeCapabilities(options.capAdd ?? [], options.capDrop ?? [], host.capabilities)
  const target: SeccompTarget = { ...host, capabilities: capabilities.bounding }
  const profile = seccomp?.kind === 'file' ? readProfile(seccomp.path) : DEFAULT_SECCOMP
  const memoryBytes = planLimit(options.memoryBytes, MEMORY_LIMIT, host)
  const limitsSwap = memoryBytes !== undefined && host.limits.includes('swap')
  return {
    network: parseNetwork(options.network ?? 'none'),
    capabilities,
    seccomp: seccomp?.kind === 'unconfined' ? undefined : createSeccomp(profile, target),
    noNewPrivileges,
    ...planUsers(host),
    ...planPids(options.pidsLimit, host),
    memoryBytes,
    memoryAndSwapBytes: limitsSwap ? 2 * memoryBytes : undefined,
    cpus: planLimit(options.cpus, CPU_LIMIT, host),
  }
}

/** With one user a container has that one as root; with more, it has all of them, in a namespace of its own, for which the kernel counts processes. */
function planUsers({ uid, gid, namespace }: HostRights): Pick<Confinement, 'owner' | 'namespace'> {
  if (uid !== 0 || (namespace !== undefined && isAlone(namespace)))
    return { owner: { uid, gid }, namespace: undefined }
  return { owner: undefined, namespace }
}

function isAlone({ uids }: IdMapping): boolean {
  return uids.length === 1 && uids[0]?.length === 1
}

/** @throws USAGE for an invalid limit, and for a requested limit that cannot be enforced */
function planPids(
  asked: number | undefined,
  { uid, namespace, limits }: HostRights,
): Pick<Confinement, 'pidsLimit' | 'notes'> {
  const count = asked ?? DEFAULT_PIDS_LIMIT
  if (!Number.isInteger(count) || count < -1 || count > MAX_PIDS)
    throw invalidLimit(count, `expected 1 to ${MAX_PIDS}, or 0 or -1 for no limit`)
  if (count <= 0) return { pidsLimit: undefined, notes: [] }
  if (limits.includes('pids')) return { pidsLimit: { by: 'group', count }, notes: [] }
  // The kernel counts by user in each user namespace, but never limits root.
  if (uid !== 0 || namespace !== undefined) {
    const notes = [`without root, RLIMIT_NPROC enforces the limit of ${count} processes`]
    return { pidsLimit: { by: 'user', count }, notes }
  }
  if (asked !== undefined) throw invalidLimit(count, 'the cgroup controller pids is not available')
  return {
    pidsLimit: undefined,
    notes: ['the cgroup controller pids is not available: the number of processes is not limited'],
  }
}

/** A limit that only a cgroup can enforce. */
interface GroupLimit {
  readonly controller: LimitController
  readonly what: string
  readonly option: string
  readonly min: number
  readonly max: number
}

/** A runtime itself needs some MiB in the group before it starts the process; the least that docker takes is 6 MiB, podman's 4. */
const MEMORY_LIMIT: GroupLimit = {
  controller: 'memory',
  what: 'memory',
  option: '--memory',
  min: 4 << 20,
  max: Number.MAX_SAFE_INTEGER,
}
const CPU_LIMIT: GroupLimit = {
  controller: 'cpu',
  what: 'processors',
  option: '--cpus',
  min: 0.01,
  max: 65_536,
}

/** @throws USAGE for an invalid limit, and for one that cannot be enforced */
function planLimit(
  asked: number | undefined,
  { controller, what, option, min, max }: GroupLimit,
  { uid, limits }: HostRights,
): number | undefined {
  if (asked === undefined) return undefined
  if (!(asked >= min && asked <= max))
    throw new LoamError('USAGE', `limit ${what} to ${asked}: expected at least ${min}`)
  if (limits.includes(controller)) return asked
  const why =
    uid === 0 ? `the cgroup controller ${controller} is not available` : 'without root there is no cgroup'
  throw new LoamError('USAGE', `limit ${what} to ${asked}: ${why}`, {
    hint:
      uid === 0
        ? `Leave out ${option}, or enable the controller on this machine.`
        : `Leave out ${option}, run Loam as root, or set the limit outside: systemd-run --user --scope.`,
  })
}

function invalidLimit(count: number, why: string): LoamError {
  return new LoamError('USAGE', `limit processes to ${count}: ${why}`, {
    hint: 'Write --pids-limit 100, or --pids-limit -1 for no limit.',
  })
}
