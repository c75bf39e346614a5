import type { ErrorCode } from './codes.ts'
import { isErrno, isLoamError, LoamError } from './loam-error.ts'

/** Errors of a file of the store that is not what it should be. */
const DAMAGE_CODES: readonly ErrorCode[] = [
  'DOCUMENT_DAMAGED',
  'LAYER_DAMAGED',
  'EROFS_INVALID',
  'LAZY_INDEX_INVALID',
  'TAR_INVALID',
  'TAR_UNSAFE',
  'LAYER_LIMIT',
]
/** Errors that say nothing of the file: the process or the machine has no more of something. */
const SHORTAGES: readonly string[] = ['EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN', 'EINTR']

/** Applies to the store, which can be freed when it is full, and to every other path. */
export const NO_SPACE_HINT =
  'Make room on that file system. In the store, `loam prune`, `loam rmi` and `loam destroy` also work on a full disk; --root and --state choose other directories.'

/**
 * Converts any thrown value to a LoamError that says what was attempted. Once the signal has fired it is CANCELED, with the signal's
 * reason as its cause: the signal decides and never the type of the error, since a canceled operation may throw any error, and other code throws
 * AbortErrors, too. Otherwise a LoamError is returned unchanged; a system error gets the code for its errno, and a hint if the
 * user can do something; and an error of the code itself (a TypeError, an error without a code) is INTERNAL. Of an error and another one that came when
 * what was open was closed for it, the first one counts.
 */
export function toLoamError(error: unknown, attempted: string, signal?: AbortSignal): LoamError {
  if (signal?.aborted === true) return canceled(error, attempted, signal)
  if (isLoamError(error)) return error
  if (error instanceof SuppressedError) return toLoamError(error.suppressed, attempted)
  const reason = error instanceof Error ? error.message : String(error)
  const details = systemDetails(error)
  if (isErrno(error, 'ENOSPC', 'EDQUOT')) {
    return new LoamError('NO_SPACE', `${attempted}: no space left (${reason})`, {
      cause: error,
      details,
      hint: NO_SPACE_HINT,
    })
  }
  if (isErrno(error, 'EROFS')) {
    return new LoamError('READ_ONLY', `${attempted}: the file system is read-only (${reason})`, {
      cause: error,
      details,
      hint: 'Choose --root and --state on a writable file system.',
    })
  }
  if (isErrno(error, 'EACCES', 'EPERM')) {
    return new LoamError('PERMISSION_DENIED', `${attempted}: not permitted (${reason})`, {
      cause: error,
      details,
      hint: 'Run as root: Loam mounts file systems and sets the owners that an image asks for.',
    })
  }
  const code = isDefect(error) ? 'INTERNAL' : 'SYSTEM'
  const isLost = details['syscall'] === 'uv_cwd'
  const said = isLost ? 'the working directory was removed' : reason
  return new LoamError(code, `${attempted}: ${said}`, { cause: error, details, hint: hintOf(error, isLost) })
}

function hintOf(error: unknown, isLost: boolean): string | undefined {
  if (isLost) return 'Change to a directory that exists.'
  return isErrno(error, 'EMFILE') ? 'Raise the limit of open files of this process: ulimit -n' : undefined
}

/** An error of the system or of Node has a code, which is a text; an error of the code itself has none, or is one of the language. */
function isDefect(error: unknown): boolean {
  if (!(error instanceof Error)) return true
  const { code }: NodeJS.ErrnoException = error
  // A path from a caller, a time limit, and memory that the system does not have.
  if (code === 'ERR_INVALID_ARG_VALUE' || error instanceof DOMException) return false
  if (error instanceof RangeError && /allocation failed/i.test(error.message)) return false
  if ([TypeError, RangeError, ReferenceError, SyntaxError].some((kind) => error instanceof kind)) return true
  return typeof code !== 'string'
}

/**
 * Returns what is wrong with the file that an operation has read: the name of a system error such as EIO, or a sentence. Undefined if the error says nothing
 * of the file: it was canceled, there is a shortage or a defect, or the database has failed.
 */
export function faultOfFile(error: unknown): string | undefined {
  const { code, message, details } = toLoamError(error, 'read')
  if (DAMAGE_CODES.includes(code)) return message
  const { errno } = details
  const isOfSystem = code === 'SYSTEM' || code === 'PERMISSION_DENIED'
  if (!isOfSystem || typeof errno !== 'string' || SHORTAGES.includes(errno)) return undefined
  // EUCLEAN, by which file systems report damage, has no name in Node.
  if (errno === 'UNKNOWN') return message
  return /^E(?!RR_)/.test(errno) ? errno : undefined
}

function systemDetails(error: unknown): Record<string, string> {
  if (!(error instanceof Error)) return {}
  const { code, path, syscall }: NodeJS.ErrnoException = error
  return {
    ...(code === undefined ? {} : { errno: code }),
    ...(path === undefined ? {} : { path }),
    ...(syscall === undefined ? {} : { syscall }),
  }
}

function canceled(error: unknown, attempted: string, { reason }: AbortSignal): LoamError {
  if (isLoamError(error, 'CANCELED') && error.cause === reason) return error
  return new LoamError('CANCELED', `${attempted}: canceled`, { cause: reason })
}

/** Throws CANCELED if the signal has fired; for loops between steps that do not take a signal themselves. */
export function throwIfAborted(signal: AbortSignal | undefined, attempted: string): void {
  if (signal?.aborted === true) throw canceled(undefined, attempted, signal)
}

/** Runs work that a signal may cancel. @throws CANCELED for any failure after the signal has fired, and the errors of the work before */
export async function cancelable<T>(
  signal: AbortSignal | undefined,
  attempted: string,
  work: () => Promise<T>,
): Promise<T> {
  throwIfAborted(signal, attempted)
  try {
    return await work()
  } catch (error) {
    if (signal?.aborted === true) throw canceled(error, attempted, signal)
    throw error
  }
}

/** Returns why a server at a unix socket does not answer, as a sentence. */
export function faultOfSocket(error: unknown): string {
  if (isErrno(error, 'ENOENT')) return 'no such socket'
  if (isErrno(error, 'ECONNREFUSED')) return 'nothing listens there'
  if (isErrno(error, 'EACCES')) return 'permission denied'
  return error instanceof Error ? error.message : String(error)
}
