import { LoamError } from '../errors/index.ts'

/** By their numbers (linux/capability.h). */
export const CAPABILITIES: readonly string[] = [
  'CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE',
  'NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN',
  'SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE',
  'MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE',
]
  .flatMap((line) => line.split(' '))
  .map((name) => `CAP_${name}`)

/** podman's default set: enough for package managers and daemons. Docker also gives AUDIT_WRITE, MKNOD and NET_RAW. */
const DEFAULT_CAPABILITIES: readonly string[] = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_NET_BIND_SERVICE',
  'CAP_SETFCAP',
  'CAP_SETGID',
  'CAP_SETPCAP',
  'CAP_SETUID',
  'CAP_SYS_CHROOT',
]

/** The capabilities of a container. */
export interface CapabilitySets {
  /** The bounding set: the most that any of its processes may have; all of root's. */
  readonly bounding: readonly string[]
  /** Capabilities that were requested by name: a user other than root has them, too. */
  readonly added: readonly string[]
}

/** Returns the names of the capabilities in a mask (CapBnd of proc(5)); leaves out those that are newer than this table. */
export function capabilitiesOf(mask: bigint): string[] {
  return CAPABILITIES.filter((_, index) => (mask & (1n << BigInt(index))) !== 0n)
}

/**
 * Returns the capabilities of a container as podman does: `ALL`, or names with or without `CAP_`, in any case. Leaves out default ones that
 * `available` lacks. @throws USAGE for an unknown name, one that is both added and dropped, and one that is not available
 */
export function mergeCapabilities(
  add: readonly string[],
  drop: readonly string[],
  available: readonly string[],
): CapabilitySets {
  const [added, dropped] = [add.map(parseCapability), drop.map(parseCapability)]
  const both = added.find((each) => dropped.includes(each))
  if (both !== undefined) throw invalid(both, 'it is added and dropped')
  const named = [...new Set(added.filter((each) => each !== ALL))]
  const missing = named.find((each) => !available.includes(each))
  if (missing !== undefined) throw invalid(missing, 'it is not in the bounding set of this process')
  const base = added.includes(ALL)
    ? available
    : dropped.includes(ALL)
      ? []
      : DEFAULT_CAPABILITIES.filter((each) => available.includes(each))
  const bounding = [...new Set([...base, ...named])].filter((each) => !dropped.includes(each))
  return { bounding, added: added.includes(ALL) ? bounding : named }
}

const ALL = 'ALL'

function parseCapability(text: string): string {
  const upper = text.toUpperCase()
  if (upper === ALL) return ALL
  const name = upper.startsWith('CAP_') ? upper : `CAP_${upper}`
  if (!CAPABILITIES.includes(name)) throw invalid(text, 'it is not known')
  return name
}

function invalid(name: string, why: string): LoamError {
  return new LoamError('USAGE', `use capability ${JSON.stringify(name)}: ${why}`, {
    hint: 'capabilities(7) lists them; ALL stands for every one.',
  })
}
