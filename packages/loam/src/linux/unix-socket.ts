import { closeSync } from 'node:fs'
import { LoamError } from '../errors/index.ts'
import { libc } from './libc.ts'

// bits/socket.h and asm-generic/fcntl.h; equal on all architectures that Node runs on.
const AF_UNIX = 1
const SOCK_STREAM = 1
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000
const MSG_DONTWAIT = 0x40
const MSG_NOSIGNAL = 0x4000
/** Of sockaddr_un.sun_path, in bytes, with the NUL at its end. */
const MAX_PATH_BYTES = 108
/** Clients that may wait to be accepted; as systemd has it, and eight times as many as Node. */
const BACKLOG = 4096

/**
 * Creates a unix socket at a path that does not exist, with the modes that the process's umask leaves, and listens on it. Returns its descriptor,
 * which the caller closes; the path stays. Node removes the path of its own sockets when it closes them, also where another process has taken
 * over the socket. @throws USAGE when the path is too long, and system errors
 */
export function listenOnUnixSocket(path: string): number {
  const address = addressOf(path)
  const fd = libc().socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
  try {
    libc().bind(fd, address, address.length)
    libc().listen(fd, BACKLOG)
    return fd
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

/**
 * Sends one datagram to a unix socket, without waiting; a path that begins with `@` is an abstract name (unix(7)). Node has no datagrams of unix
 * sockets. @throws USAGE when the path is not one of a socket, and system errors: EAGAIN when the receiver's queue is full
 */
export function sendDatagram(path: string, text: string): void {
  const address = addressOf(path)
  const bytes = Buffer.from(text)
  const fd = libc().socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
  try {
    libc().sendto(fd, bytes, bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL, address, address.length)
  } finally {
    closeSync(fd)
  }
}

/** Returns a sockaddr_un. */
function addressOf(path: string): Buffer {
  const name = Buffer.from(path.startsWith('@') ? `\0${path.slice(1)}` : `${path}\0`)
  if (!/^[@/]./.test(path) || name.length > MAX_PATH_BYTES) {
    throw new LoamError('USAGE', `use ${path}: not an absolute path of at most 107 bytes for a unix socket`)
  }
  const family = Buffer.alloc(2)
  family.writeUInt16LE(AF_UNIX)
  return Buffer.concat([family, name])
}
