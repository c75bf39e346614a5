import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Conversations, EventOf, ReplyOf } from '../api/index.ts'
import { isLoamError, LoamError } from '../errors/index.ts'
import type { RemoteRunOptions } from './run-fields.ts'
import type { Transport } from './transport.ts'

type Run = Conversations['containers.run']
type StartEvent = Extract<EventOf<Run>, { kind: 'start' }>
type RunRequest = Parameters<Transport['converse']>[1]

/** How long a daemon that has ended is waited for, to remove a container. */
const CLEAN_UP_LIMIT_MS = 30_000
const CLEAN_UP_PAUSE_MS = 200

/**
 * Implements `RemoteContainers.run`: starts the OCI runtime when the daemon names it. The daemon removes the container. If the daemon ends while the
 * process runs, the next daemon is asked to, and the status of the process is returned all the same.
 * @throws CANCELED if the signal fires before the start: nothing is left then; DAEMON_LOST with `id` and `status` if the container could not be removed
 */
export async function runRemotely(
  transport: Transport,
  request: RunRequest,
  { id: given, onStart, onEvent, signal, ...options }: RemoteRunOptions,
): Promise<number> {
  // Only a program that runs containers loads it.
  const { runForeground } = await import('../linux/index.ts')
  const id = given ?? randomBytes(6).toString('hex')
  const keep = options.keep === true || options.detach === true
  const untilStart = new AbortController()
  const stop = () => {
    untilStart.abort(signal?.reason)
  }
  if (signal?.aborted === true) stop()
  signal?.addEventListener('abort', stop)
  let running: Promise<ReplyOf<Run>> | undefined
  const start = async ({ file, args, env }: StartEvent): Promise<ReplyOf<Run>> => {
    try {
      return { status: await runForeground(file, args, { env }) }
    } catch (error) {
      return { failed: error instanceof Error ? error.message : String(error) }
    }
  }
  const reply = (event: EventOf<Run>) => {
    if (event.kind !== 'start') {
      onEvent?.(event)
      return undefined
    }
    signal?.removeEventListener('abort', stop)
    onStart?.(event.id)
    running = start(event)
    return running
  }
  try {
    const { status } = await transport.converse(
      'containers.run',
      { ...request, id },
      reply,
      untilStart.signal,
    )
    return status
  } catch (error) {
    // The container goes on without its daemon, and has the streams of this process.
    const ended = await running
    if (!isLoamError(error, 'DAEMON_LOST')) throw error
    // A container with a given ID that was not started may be another client's.
    const isOwn = ended !== undefined || given === undefined
    const isRemoved = !keep && isOwn && (await remove(transport, id))
    if (ended === undefined)
      throw new LoamError('DAEMON_LOST', error.message, { cause: error, details: { id }, hint: error.hint })
    return statusOf(ended, { id, isInOrder: keep || isRemoved, error })
  } finally {
    signal?.removeEventListener('abort', stop)
  }
}

/** Returns the status of a process whose daemon ended before it. @throws DAEMON_LOST if its container is left */
function statusOf(
  ended: ReplyOf<Run>,
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

/** Asks for a removal until a daemon answers. Returns whether the container is gone. */
async function remove(transport: Transport, id: string): Promise<boolean> {
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
