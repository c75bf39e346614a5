import { LoamError } from 'loamfs'

/** Sockets are passed from this descriptor on (sd_listen_fds(3)). */
const FIRST_FD = 3

/** The names of the daemon's sockets, as `FileDescriptorName=` in its units. */
export const SOCKET_NAMES = ['snapshotter', 'api', 'image-service', 'csi'] as const
export type SocketName = (typeof SOCKET_NAMES)[number]

/** Names of the passed sockets that a daemon before this one created, which no service manager keeps. */
export const OWN_SOCKETS = 'LOAMD_OWN_SOCKETS'

/** A socket that listens already. */
export interface PassedSocket {
  readonly fd: number
  /** True when no service manager keeps it, so that its path is removed when this process stops. */
  readonly isOwn: boolean
}

/**
 * Returns the sockets that a service manager, or a daemon that hands over, has passed to this process, by name. A single socket without one of the names is
 * the snapshotter's. @throws CONFIG_INVALID when several have the same name, or none
 */
export function passedSockets(
  env: Readonly<Record<string, string | undefined>>,
): Readonly<Partial<Record<SocketName, PassedSocket>>> {
  if (env['LISTEN_PID'] !== String(process.pid)) return {}
  const count = Number(env['LISTEN_FDS'])
  if (!Number.isInteger(count) || count < 1) return {}
  const names = env['LISTEN_FDNAMES']?.split(':') ?? []
  const own = env[OWN_SOCKETS]?.split(':') ?? []
  const found: Partial<Record<SocketName, PassedSocket>> = {}
  for (let index = 0; index < count; index += 1) {
    const given = names[index] ?? 'unknown'
    const name = SOCKET_NAMES.find((known) => known === given) ?? (count === 1 ? 'snapshotter' : undefined)
    if (name === undefined || found[name] !== undefined) {
      const problem = name === undefined ? 'is not the name of a socket of loamd' : 'is passed twice'
      throw new LoamError('CONFIG_INVALID', `take the sockets of the service manager: ${given} ${problem}`, {
        hint: `Set FileDescriptorName= of each socket unit to one of: ${SOCKET_NAMES.join(', ')}.`,
      })
    }
    found[name] = { fd: FIRST_FD + index, isOwn: own.includes(name) }
  }
  return found
}
