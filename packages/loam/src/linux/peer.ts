import type { Socket } from 'node:net'
import { isErrno } from '../errors/index.ts'
import { libc } from './libc.ts'

// asm-generic/socket.h
const SOL_SOCKET = 1
const SO_PEERCRED = 17
const SO_PEERGROUPS = 59
const GROUP_BYTES = 4
/** More groups than nearly all users have: space for all that are possible, for each request, would keep the garbage collector busy. */
const FEW_GROUPS = 256
/** As many groups as a process may have (linux/limits.h). */
const NGROUPS_MAX = 65_536

/** Returns the user of the process at the other end of a unix socket, undefined if it is unknown (unix(7)). */
export function peerUser(socket: Socket): number | undefined {
  // struct ucred: pid, uid, gid
  return option(socket, SO_PEERCRED, 12)?.readUInt32LE(4)
}

/** Returns the number of the process at the other end of a unix socket; of a client, that of the process which began to listen. Undefined if it is unknown. */
export function peerProcess(socket: Socket): number | undefined {
  return option(socket, SO_PEERCRED, 12)?.readUInt32LE(0)
}

/** Returns the groups of the process at the other end of a unix socket when it connected; none if they are unknown. */
export function peerGroups(socket: Socket): number[] {
  const own = option(socket, SO_PEERCRED, 12)?.readUInt32LE(8)
  const others = groupsOf(socket, FEW_GROUPS) ?? groupsOf(socket, NGROUPS_MAX)
  if (own === undefined || others === undefined) return []
  const count = others.length / GROUP_BYTES
  return [own, ...Array.from({ length: count }, (_, index) => others.readUInt32LE(index * GROUP_BYTES))]
}

/** Returns undefined if there are more than `count` groups, too. */
function groupsOf(socket: Socket, count: number): Buffer | undefined {
  try {
    return option(socket, SO_PEERGROUPS, count * GROUP_BYTES)
  } catch (error) {
    if (isErrno(error, 'ERANGE')) return undefined
    throw error
  }
}

function option(socket: Socket, name: number, sizeBytes: number): Buffer | undefined {
  // Node has no public name for it; without it the peer is unknown.
  const handle: unknown = '_handle' in socket ? socket._handle : undefined
  if (typeof handle !== 'object' || handle === null || !('fd' in handle) || typeof handle.fd !== 'number')
    return undefined
  const value = Buffer.alloc(sizeBytes)
  const size = Buffer.alloc(4)
  size.writeUInt32LE(sizeBytes)
  libc().getsockopt(handle.fd, SOL_SOCKET, name, value, size)
  return value.subarray(0, size.readUInt32LE())
}
