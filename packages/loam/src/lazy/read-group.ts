import { LoamError, toLoamError } from '../errors/index.ts'
import { openReadGroup } from '../linux/index.ts'

/** Creates the group whose reads wait. @throws LAZY_UNAVAILABLE where the kernel cannot */
export function openGroup(): number {
  try {
    return openReadGroup()
  } catch (error) {
    throw cannotWait(error, 'let reads wait')
  }
}

/** Creates the error for a machine that cannot let reads wait. */
export function cannotWait(error: unknown, attempted: string): LoamError {
  const { message } = toLoamError(error, attempted)
  return new LoamError('LAZY_UNAVAILABLE', message, {
    cause: error,
    hint: 'Lazy pulls need root and Linux 6.14.',
  })
}
