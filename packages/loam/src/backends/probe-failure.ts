import { toLoamError } from '../errors/index.ts'

/** Returns why a probe failed. @throws NO_SPACE, which says nothing of the machine: nobody may remember it as an answer */
export function probeFailure(error: unknown, attempted: string): string {
  const failure = toLoamError(error, attempted)
  if (failure.code === 'NO_SPACE') throw failure
  return failure.message
}
