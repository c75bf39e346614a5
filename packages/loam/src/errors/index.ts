export type { Failure } from './failure.ts'
export { type ErrorCode, type ErrorKind, ERRORS } from './codes.ts'
export {
  type ErrorDetails,
  isErrno,
  isLoamError,
  LoamError,
  type LoamErrorOptions,
  type PlainError,
  withHint,
} from './loam-error.ts'
export { editDistance, findNear } from './near-names.ts'
export { keepSecret, keepServerSecret, redact } from './redact.ts'
export {
  cancelable,
  faultOfFile,
  faultOfSocket,
  NO_SPACE_HINT,
  throwIfAborted,
  toLoamError,
} from './system.ts'
export { visible, visibleJson } from './visible.ts'
