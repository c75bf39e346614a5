/*
 * The config.json of an OCI bundle (runtime-spec 1.0.2), from an image's defaults and what a user asks for. Everything
 * that the image decides is data of the process: its arguments, environment, directory and user. Nothing of it names
 * a path, a mount, a hook or a right of the host.
 */
import type { RuntimeMount } from './mounts.ts'
import { DEFAULT_MOUNTS } from './mounts.ts'
import type { ResolvedUser } from './users.ts'

export interface RuntimeConfigInput {
  readonly rootfsPath: string
  readonly isReadOnly: boolean
  readonly args: readonly string[]
  readonly env: readonly string[]
  readonly cwd: string
  readonly user: ResolvedUser
  readonly terminal: boolean
  readonly hostname: string
  readonly mounts: readonly RuntimeMount[]
}

/** Docker's default set: enough for package managers and daemons, nothing that leads out. */
const CAPABILITIES: readonly string[] = [
  'CAP_AUDIT_WRITE',
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_MKNOD',
  'CAP_NET_BIND_SERVICE',
  'CAP_NET_RAW',
  'CAP_SETFCAP',
  'CAP_SETGID',
  'CAP_SETPCAP',
  'CAP_SETUID',
  'CAP_SYS_CHROOT',
]

const MASKED_PATHS: readonly string[] = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/sys/firmware',
  '/sys/devices/virtual/powercap',
]

const READ_ONLY_PATHS: readonly string[] = [
  '/proc/bus',
  '/proc/fs',
  '/proc/irq',
  '/proc/sys',
  '/proc/sysrq-trigger',
]

/** Returns the configuration as the value that JSON.stringify writes. The container has the host's network. */
export function makeRuntimeConfig(input: RuntimeConfigInput): Record<string, unknown> {
  const isRootUser = input.user.uid === 0
  return {
    ociVersion: '1.0.2',
    root: { path: input.rootfsPath, readonly: input.isReadOnly },
    hostname: input.hostname,
    process: {
      terminal: input.terminal,
      user: {
        uid: input.user.uid,
        gid: input.user.gid,
        additionalGids: [...new Set([input.user.gid, ...input.user.additionalGids])],
      },
      args: input.args,
      env: input.env,
      cwd: input.cwd,
      capabilities: {
        bounding: CAPABILITIES,
        effective: isRootUser ? CAPABILITIES : [],
        permitted: isRootUser ? CAPABILITIES : [],
        inheritable: [],
        ambient: [],
      },
      // As with every other engine: sudo, su and ping of an image work.
      noNewPrivileges: false,
      oomScoreAdj: 0,
    },
    mounts: [...DEFAULT_MOUNTS, ...input.mounts],
    linux: {
      resources: { devices: [{ allow: false, access: 'rwm' }] },
      namespaces: [{ type: 'pid' }, { type: 'ipc' }, { type: 'uts' }, { type: 'mount' }],
      maskedPaths: MASKED_PATHS,
      readonlyPaths: READ_ONLY_PATHS,
    },
  }
}
