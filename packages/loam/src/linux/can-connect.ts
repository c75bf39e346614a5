import { connect } from 'node:net'

/** Returns whether a process listens on a unix socket. */
export async function canConnect(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const probe = connect(path)
  probe.once('connect', () => {
    resolve(true)
  })
  probe.once('error', () => {
    resolve(false)
  })
  const isListening = await promise
  probe.destroy()
  return isListening
}
