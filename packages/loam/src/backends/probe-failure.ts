import { toLoamError } from '../errors/index.ts'

/** Returns why a probe failed. @throws NO_SPACE, which says nothing about the machine: callers must not cache it as a result of the probe */
export function probeFailure(error: unknown, attempted: string): string {
  const failure = toLoamError(error, attempted)
  if (failure.code === 'NO_SPACE') throw failure
  return failure.message
}
