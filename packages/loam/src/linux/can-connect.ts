import { connect } from 'node:net'
import { peerProcess } from './peer.ts'

/** Returns whether a process listens on a unix socket. */
export async function canConnect(path: string): Promise<boolean> {
  return (await findListener(path)) !== undefined
}

/** Returns the number of the process that listens on a unix socket, 0 if it is unknown, as of another PID namespace; undefined if none listens. */
export async function findListener(path: string): Promise<number | undefined> {
  const { promise, resolve } = Promise.withResolvers<number | undefined>()
  const probe = connect(path)
  probe.once('connect', () => {
    resolve(peerProcess(probe) ?? 0)
  })
  probe.once('error', () => {
    resolve(undefined)
  })
  const pid = await promise
  probe.destroy()
  return pid
}
