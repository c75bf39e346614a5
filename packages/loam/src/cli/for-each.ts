import { isLoamError, LoamError } from '../errors/index.ts'
import type { Output } from './output.ts'

/** Acts on each container, also when one fails, and writes the IDs for which it did not. @throws the failure, or the first of several with all messages */
export async function forEach(
  ids: readonly string[],
  output: Output,
  { ignore }: { readonly ignore?: boolean },
  act: (id: string) => Promise<void>,
): Promise<void> {
  const done: string[] = []
  const failures: unknown[] = []
  for (const id of ids) {
    try {
      await act(id)
      done.push(id)
    } catch (error) {
      if (ignore !== true || !isLoamError(error, 'CONTAINER_NOT_FOUND')) failures.push(error)
    }
  }
  if (done.length > 0)
    output.result(
      done.map((id) => ({ id })),
      () => done,
    )
  throwAll(failures)
}

function throwAll(failures: readonly unknown[]): void {
  const [first] = failures
  if (failures.length === 0) return
  if (failures.length === 1 || !isLoamError(first)) throw first
  const messages = failures.map((failure) => (failure instanceof Error ? failure.message : String(failure)))
  throw new LoamError(first.code, messages.join('; '), { hint: first.hint, cause: first })
}
