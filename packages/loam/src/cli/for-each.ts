import { isLoamError, LoamError, throwIfAborted } from '../errors/index.ts'
import type { Output } from './output.ts'

/** What became of several containers or images. */
interface Outcome<Result> {
  readonly results: readonly Result[]
  readonly failures: readonly unknown[]
}

/**
 * Acts on each container, also when one fails, until the signal fires, and writes the IDs of those that it acted on. `ignore`: a container that does not
 * exist is not an error. @throws the failure, or the first of several with all messages and hints; CANCELED
 */
export async function forEach(
  ids: readonly string[],
  {
    output,
    signal,
    ignore,
  }: { readonly output: Output; readonly signal: AbortSignal; readonly ignore?: boolean },
  act: (id: string) => Promise<void>,
): Promise<void> {
  const { results, failures } = await actOnEach(ids, signal, async (id) => {
    await act(id)
    return { id }
  })
  if (results.length > 0) output.result(results, () => results.map(({ id }) => id))
  throwAll(failures.filter((error) => ignore !== true || !isLoamError(error, 'CONTAINER_NOT_FOUND')))
}

/** Acts on each container or image in turn, also when one fails. Nothing is done to those that are left when the signal fires: that is a failure. */
export async function actOnEach<Result>(
  ids: readonly string[],
  signal: AbortSignal,
  act: (id: string) => Promise<Result>,
): Promise<Outcome<Result>> {
  const results: Result[] = []
  const failures: unknown[] = []
  for (const id of ids) {
    try {
      throwIfAborted(signal, `go on with ${id}`)
      results.push(await act(id))
    } catch (error) {
      failures.push(error)
      if (signal.aborted) break
    }
  }
  return { results, failures }
}

/** Throws the failure, or the first of several with all messages and hints. */
export function throwAll(failures: readonly unknown[]): void {
  const [first] = failures
  if (failures.length === 0) return
  if (failures.length === 1 || !isLoamError(first)) throw first
  const messages = failures.map((failure) => (failure instanceof Error ? failure.message : String(failure)))
  const hints = new Set(failures.map((failure) => (isLoamError(failure) ? failure.hint : undefined)))
  const hint = [...hints].filter((text) => text !== undefined).join(' ')
  throw new LoamError(first.code, messages.join('; '), { hint: hint === '' ? undefined : hint, cause: first })
}
