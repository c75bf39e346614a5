import { spawn } from 'node:child_process'
import { LoamError } from 'loamfs'
import { ownExecutable } from 'loamfs/internal'
import { OWN_SOCKETS, type PassedSocket, type SocketName } from './passed-sockets.ts'

/** Set in the environment of a daemon that takes over. */
const SUCCESSOR = 'LOAMD_SUCCESSOR'

/** Notifies the process that hands over, if there is one, that this one serves. That process may have been killed meanwhile, which is not an error. */
export function reportSuccession(env: Readonly<Record<string, string | undefined>>): void {
  if (env[SUCCESSOR] === undefined || !process.connected) return
  process.send?.('serving', undefined, undefined, () => {
    if (process.connected) process.disconnect?.()
  })
}

/**
 * Starts the installed daemon with this process's arguments and listening sockets, and waits until it serves. Returns its process ID.
 * On failure, and when `signal` fires before that, nothing has changed: this process still serves. @throws LoamError PROGRAM_FAILED
 */
export async function startSuccessor(
  sockets: Readonly<Partial<Record<SocketName, PassedSocket>>>,
  signal: AbortSignal,
): Promise<number> {
  // The sockets of a daemon that stops may be closed already.
  signal.throwIfAborted()
  const all = Object.entries(sockets)
  const namesOf = (some: typeof all) => some.map(([name]) => name).join(':')
  const start = ownExecutable() === undefined ? [process.execPath, ...process.execArgv, '--'] : []
  const program = [...start, ...process.argv.slice(1)]
  // Only the new process knows its ID, which these variables name.
  const script = `LISTEN_PID=$$ WATCHDOG_PID=$$ exec "$@"`
  const child = spawn('/bin/sh', ['-c', script, 'loamd', ...program], {
    // The sockets have the descriptors from 3 on.
    stdio: ['ignore', 'inherit', 'inherit', ...all.map(([, { fd }]) => fd), 'ipc'],
    env: {
      ...process.env,
      LISTEN_FDS: String(all.length),
      LISTEN_FDNAMES: namesOf(all),
      [OWN_SOCKETS]: namesOf(all.filter(([, { isOwn }]) => isOwn)),
      [SUCCESSOR]: '1',
    },
  })
  const end = () => child.kill()
  signal.addEventListener('abort', end)
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  child.once('message', () => {
    resolve()
  })
  child.once('error', reject)
  child.once('exit', (status, by) => {
    reject(new Error(`it ended with ${by ?? `status ${status}`} before it served`))
  })
  try {
    await promise
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new LoamError('PROGRAM_FAILED', `start ${process.argv[1]}: ${reason}`, {
      cause: error,
      hint: 'The new daemon has logged why. The old one still serves.',
    })
  } finally {
    signal.removeEventListener('abort', end)
  }
  child.unref()
  return child.pid ?? 0
}
