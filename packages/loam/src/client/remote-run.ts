import { setTimeout as sleep } from 'node:timers/promises'
import type { Conversations, EventOf, ReplyOf, RequestOf } from '../api/index.ts'
import type { RunStarter } from '../containers/index.ts'
import { isLoamError, LoamError } from '../errors/index.ts'
import type { Transport } from './transport.ts'

/** The operations that start a process. */
export type RunName = 'containers.run' | 'containers.exec'
type RunEvent = EventOf<Conversations[RunName]>
type StartEvent = Extract<RunEvent, { kind: 'start' }>
type Reply = ReplyOf<Conversations[RunName]>

/** What a client has to do with a process. */
export interface RunCallbacks {
  readonly onStart?: ((id: string) => void) | undefined
  readonly onEvent?: ((event: Exclude<RunEvent, StartEvent>) => void) | undefined
  /** Cancels what precedes the start. */
  readonly signal?: AbortSignal | undefined
  /** Starter of the OCI runtime. Undefined: this process. */
  readonly starter?: Pick<RunStarter, 'start'> | undefined
  /**
   * Called when the daemon has ended, with how the process has ended; undefined if it was not started. Returns whether everything is in order all the
   * same.
   */
  readonly onLost: (ended: Reply | undefined) => Promise<boolean>
}

/** How long a daemon that has ended is waited for, to remove a container. */
const CLEAN_UP_LIMIT_MS = 30_000
const CLEAN_UP_PAUSE_MS = 200

/**
 * Starts the OCI runtime when the daemon names it, for a process of the container `id`. The daemon cleans up. If it ends while the process runs, the
 * status of the process is returned all the same.
 * @throws CANCELED if the signal fires before the start; DAEMON_LOST with `id`, and `status` if the process has ended and something is left of it
 */
export async function runRemotely<Name extends RunName>(
  transport: Transport,
  name: Name,
  { id, ...request }: RequestOf<Conversations[Name]> & { readonly id: string },
  { onStart, onEvent, signal, starter, onLost }: RunCallbacks,
): Promise<number> {
  const untilStart = new AbortController()
  const stop = () => {
    untilStart.abort(signal?.reason)
  }
  if (signal?.aborted === true) stop()
  signal?.addEventListener('abort', stop)
  let running: Promise<Reply> | undefined
  const reply = (event: RunEvent) => {
    if (event.kind !== 'start') {
      onEvent?.(event)
      return undefined
    }
    signal?.removeEventListener('abort', stop)
    onStart?.(event.id)
    running = startProgram(event, starter)
    return running
  }
  try {
    const whole = { ...request, id } as RequestOf<Conversations[Name]>
    // Both operations have the same start event and the same replies, which the compiler cannot see for a name that it does not know.
    const answer = reply as unknown as Parameters<typeof transport.converse<Name>>[2]
    const { status } = await transport.converse(name, whole, answer, untilStart.signal)
    return status
  } catch (error) {
    // The process goes on without its daemon, and has the streams of this process.
    const ended = await running
    if (!isLoamError(error, 'DAEMON_LOST')) throw error
    const isInOrder = await onLost(ended)
    if (ended === undefined)
      throw new LoamError('DAEMON_LOST', error.message, { cause: error, details: { id }, hint: error.hint })
    return statusOf(ended, { id, isInOrder, error })
  } finally {
    signal?.removeEventListener('abort', stop)
  }
}

async function startProgram(
  { file, args, env, id, pidFile }: StartEvent,
  starter: RunCallbacks['starter'],
): Promise<Reply> {
  try {
    if (starter !== undefined && pidFile === undefined)
      return { failed: 'the daemon does not say where the number of the process is: update loamd' }
    // Only a program that runs containers loads it.
    const { runForeground } = await import('../linux/index.ts')
    const status =
      starter === undefined || pidFile === undefined
        ? await runForeground(file, args, { env })
        : await starter.start({ file, args, env }, { id, keep: false, pidFile })
    return status === undefined ? { failed: 'its starter was killed' } : { status }
  } catch (error) {
    return { failed: error instanceof Error ? error.message : String(error) }
  }
}

/** Returns the status of a process whose daemon ended before it. @throws DAEMON_LOST if its container is left */
function statusOf(
  ended: Reply,
  { id, isInOrder, error }: { readonly id: string; readonly isInOrder: boolean; readonly error: LoamError },
): number {
  if ('failed' in ended)
    throw new LoamError('RUNTIME_FAILED', `run ${id}: ${ended.failed}`, { details: { id } })
  const { status } = ended
  if (isInOrder) return status
  throw new LoamError('DAEMON_LOST', error.message, {
    cause: error,
    details: { id, status },
    hint: `The process has ended with status ${status}. \`loam destroy ${id}\` removes its container.`,
  })
}

/** Asks for the removal of a container until a daemon answers. Returns whether it is gone. */
export async function removeRemotely(transport: Transport, id: string): Promise<boolean> {
  for (
    const endMs = performance.now() + CLEAN_UP_LIMIT_MS;
    performance.now() < endMs;
    await sleep(CLEAN_UP_PAUSE_MS)
  ) {
    try {
      await transport.call('containers.destroy', { id })
      return true
    } catch (error) {
      if (!isLoamError(error, 'DAEMON_UNAVAILABLE', 'DAEMON_LOST')) return false
    }
  }
  return false
}
