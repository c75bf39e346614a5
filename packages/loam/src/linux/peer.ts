import type { Socket } from 'node:net'
import { libc } from './libc.ts'

// asm-generic/socket.h
const SOL_SOCKET = 1
const SO_PEERCRED = 17

/** Returns the user of the process at the other end of a unix socket, undefined if it is unknown (unix(7)). */
export function peerUser(socket: Socket): number | undefined {
  // Node has no public name for it; without it the user is unknown.
  const handle: unknown = '_handle' in socket ? socket._handle : undefined
  if (typeof handle !== 'object' || handle === null || !('fd' in handle) || typeof handle.fd !== 'number')
    return undefined
  // struct ucred: pid, uid, gid
  const credentials = Buffer.alloc(12)
  const size = Buffer.alloc(4)
  size.writeUInt32LE(credentials.length)
  libc().getsockopt(handle.fd, SOL_SOCKET, SO_PEERCRED, credentials, size)
  return credentials.readUInt32LE(4)
}
