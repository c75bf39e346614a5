import { toLoamError } from '../errors/index.ts'
import type { OperationError } from './events.ts'

/** Describes for observers why an operation failed. */
export function describeFailure(failure: unknown, operation: string): OperationError {
  const { code, kind, message } = toLoamError(failure, operation)
  return { code, kind, message }
}
