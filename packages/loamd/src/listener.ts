import { chmodSync, chownSync, unlinkSync } from 'node:fs'
import { createServer, type Server as NetServer, type Socket } from 'node:net'
import { dirname } from 'node:path'
import { LoamError } from 'loamfs'
import { createDirectories, isErrno, peerGroups, peerUser } from 'loamfs/internal'
import { canConnect } from './can-connect.ts'
import type { Log } from './log.ts'

/** systemd passes sockets from here on (sd_listen_fds(3)). */
const FIRST_FD = 3

export interface ListenOptions {
  readonly path: string
  /** ID of a group whose members may connect, too. Undefined: none. */
  readonly groupId?: number | undefined
  readonly env: Readonly<Record<string, string | undefined>>
  readonly log: Log
  readonly onConnection: (socket: Socket) => void
}

/**
 * Listens on a unix socket that its owner, and the members of a group if one is given, may use; or on the one that systemd passes. A peer that is
 * neither root nor the user of this process nor in the group is rejected. @throws LoamError STORE_BUSY when another process listens there, and system errors
 */
export async function listen({ path, groupId, env, log, onConnection }: ListenOptions): Promise<NetServer> {
  const server = createServer((socket) => {
    const uid = peerUser(socket)
    if (uid === undefined || !mayConnect(socket, uid, groupId)) {
      log.warn('turned away', { uid })
      socket.destroy()
      return
    }
    onConnection(socket)
  })
  const isPassed = env['LISTEN_PID'] === String(process.pid) && Number(env['LISTEN_FDS'] ?? 0) >= 1
  if (!isPassed) await clearStaleSocket(path)
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject)
  const mask = process.umask(0o177)
  try {
    server.listen(isPassed ? { fd: FIRST_FD } : { path }, resolve)
    await promise
  } finally {
    process.umask(mask)
  }
  if (isPassed) return server
  if (groupId !== undefined) chownSync(path, -1, groupId)
  chmodSync(path, groupId === undefined ? 0o600 : 0o660)
  return server
}

function mayConnect(socket: Socket, uid: number, groupId: number | undefined): boolean {
  if (uid === 0 || uid === process.geteuid?.()) return true
  return groupId !== undefined && peerGroups(socket).includes(groupId)
}

/** Removes a socket that a killed process left. @throws STORE_BUSY when another process listens there */
async function clearStaleSocket(path: string): Promise<void> {
  createDirectories(dirname(path), 0o711)
  if (await canConnect(path)) throw new LoamError('STORE_BUSY', `listen on ${path}: another process does`)
  try {
    unlinkSync(path)
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
  }
}
