import { chmodSync, chownSync } from 'node:fs'
import { createServer, type Server as NetServer, type Socket } from 'node:net'
import { dirname, resolve } from 'node:path'
import { LoamError } from 'loamfs'
import {
  createDirectories,
  findListener,
  listenOnUnixSocket,
  peerGroups,
  peerUser,
  unlinkIfThere,
} from 'loamfs/internal'
import type { Log } from './log.ts'
import type { PassedSocket } from './systemd/passed-sockets.ts'

/** Limit of connections that wait to be accepted: the default of Linux. With Node's 511, a client that opens a thousand gets EAGAIN. */
const BACKLOG = 4096

export interface ListenOptions {
  readonly path: string
  /** A socket that listens already: a service manager's, or that of a daemon that hands over. */
  readonly passed?: PassedSocket | undefined
  /** ID of a group whose members may connect, too. Undefined: none. */
  readonly groupId?: number | undefined
  readonly log: Log
  readonly onConnection: (socket: Socket) => void
}

/** A socket that accepts connections. A daemon that takes over gets its descriptor. */
export interface Listener extends PassedSocket {
  /** Stops accepting. Removes the path of its own socket unless `keepPath`. */
  readonly close: (keepPath: boolean) => void
}

/**
 * Listens on a unix socket that its owner, and the members of a group if one is given, may use; or on a passed one. A peer that is neither
 * root nor the user of this process nor in the group is rejected. @throws LoamError STORE_BUSY when another process listens there, and system errors
 */
export async function listen({ path, passed, groupId, log, onConnection }: ListenOptions): Promise<Listener> {
  const server = createServer((socket) => {
    const uid = peerUser(socket)
    if (uid === undefined || !mayConnect(socket, uid, groupId)) {
      log.warn('turned away', { uid })
      socket.destroy()
      return
    }
    onConnection(socket)
  })
  const absolute = resolve(path)
  const { fd, isOwn } = passed ?? { fd: await createSocket(absolute, groupId), isOwn: true }
  await accept(server, fd)
  return {
    fd,
    isOwn,
    close: (keepPath) => {
      server.close()
      if (isOwn && !keepPath) unlinkIfThere(absolute)
    },
  }
}

async function accept(server: NetServer, fd: number): Promise<void> {
  const { promise, resolve: done, reject } = Promise.withResolvers<void>()
  server.once('error', reject)
  server.listen({ fd }, BACKLOG, done)
  await promise
}

async function createSocket(path: string, groupId: number | undefined): Promise<number> {
  await clearStaleSocket(path)
  const mask = process.umask(0o177)
  let fd: number
  try {
    fd = listenOnUnixSocket(path)
  } finally {
    process.umask(mask)
  }
  if (groupId !== undefined) {
    chownSync(path, -1, groupId)
    chmodSync(path, 0o660)
  }
  return fd
}

function mayConnect(socket: Socket, uid: number, groupId: number | undefined): boolean {
  if (uid === 0 || uid === process.geteuid?.()) return true
  return groupId !== undefined && peerGroups(socket).includes(groupId)
}

/** Removes a socket that a killed process left. @throws STORE_BUSY when another process listens there */
async function clearStaleSocket(path: string): Promise<void> {
  createDirectories(dirname(path), 0o711)
  const pid = await findListener(path)
  if (pid !== undefined) {
    const who = pid === 0 ? 'another process' : `process ${pid}`
    throw new LoamError('STORE_BUSY', `listen on ${path}: ${who} listens there already`, {
      hint: '`loam status` shows what it serves. Stop it, or choose another socket or --state.',
    })
  }
  unlinkIfThere(path)
}
