import { type ErrorCode, type ErrorKind, ERRORS } from './codes.ts'
import { MAX_TEXT_LENGTH, redact } from './redact.ts'

/** Facts that make a message actionable: paths, digests, sizes. Never credentials. */
export type ErrorDetails = Readonly<Record<string, string | number | bigint | boolean>>

/** The parts of an error in addition to its code and message. */
export interface LoamErrorOptions extends ErrorOptions {
  /** Facts about the failure. Never credentials. */
  readonly details?: ErrorDetails
  /** What the user can do about it, as a full sentence. */
  readonly hint?: string | undefined
}

/** What to do about every defect. */
const REPORT_HINT =
  'This is a defect of Loam. Report it with the message, the version (`loam --version`) and what LOAM_DEBUG=1 shows of it.'

const BRAND = Symbol.for('loam.error')

/**
 * The one error of Loam. The message says what was attempted, on what, and what happened;
 * when the error is created, the message is cut, and secrets, URL user-info, query strings and control characters are redacted.
 */
export class LoamError extends Error {
  /** Always `LoamError`. */
  override readonly name = 'LoamError'
  /** A key of `ERRORS`. Match by this and never by the message. */
  readonly code: ErrorCode
  /** The code's kind: a gRPC status name. */
  readonly kind: ErrorKind
  /** Facts about the failure: paths, digests, sizes. Never credentials. */
  readonly details: ErrorDetails
  /** What the user can do about it; undefined if no remedy is known. */
  readonly hint: string | undefined

  /** Creates an error. Code, kind, redaction and limits of the text are decided here. */
  constructor(code: ErrorCode, message: string, options: LoamErrorOptions = {}) {
    super(redact(message), options)
    this.code = code
    this.kind = ERRORS[code]
    this.details = cutDetails(options.details ?? {})
    const hint = options.hint ?? (code === 'INTERNAL' ? REPORT_HINT : undefined)
    this.hint = hint === undefined ? undefined : redact(hint)
    Object.defineProperty(this, BRAND, { value: true })
  }

  /** Returns plain data for another thread or a socket; `fromPlain` recreates the error. */
  toPlain(): PlainError {
    const { code, message, details, hint } = this
    return { code, message, details, ...(hint === undefined ? {} : { hint }) }
  }

  /** Recreates the error from the result of `toPlain`. */
  static fromPlain(plain: PlainError): LoamError {
    return new LoamError(plain.code, plain.message, { details: plain.details, hint: plain.hint })
  }
}

/** Returns an error with another hint, which says what to do where it was met. The given one is its cause. */
export function withHint(error: LoamError, hint: string | undefined): LoamError {
  const { code, message, details } = error
  return new LoamError(code, message, { cause: error, details, hint })
}

/** Details are for programs, which escape them on display; their length is limited like that of a message. */
function cutDetails(details: ErrorDetails): ErrorDetails {
  const isLong = (value: unknown) => typeof value === 'string' && value.length > MAX_TEXT_LENGTH
  if (!Object.values(details).some(isLong)) return details
  const cut = (value: ErrorDetails[string]) =>
    typeof value === 'string' ? value.slice(0, MAX_TEXT_LENGTH) : value
  return Object.fromEntries(Object.entries(details).map(([name, value]) => [name, cut(value)]))
}

/** A LoamError as plain data. */
export interface PlainError {
  /** The error's code. */
  readonly code: ErrorCode
  /** The error's message, redacted. */
  readonly message: string
  /** The error's details. */
  readonly details: ErrorDetails
  /** The error's hint. */
  readonly hint?: string
}

/**
 * Returns whether a value is a LoamError, with one of the given codes if there are any. Works across copies of the package (a daemon and a plugin may
 * each load
 * one), where `instanceof` does not.
 */
export function isLoamError(value: unknown, ...codes: readonly ErrorCode[]): value is LoamError {
  if (!(value instanceof Error) || !(BRAND in value)) return false
  return codes.length === 0 || ('code' in value && codes.some((code) => code === value.code))
}

/** Errors of Linux that libuv has no name for (asm-generic/errno.h): Node says `UNKNOWN`, and the number. */
const UNNAMED: Readonly<Record<string, number>> = { ENOTBLK: -15, EDQUOT: -122 }

/** `isErrno(error, 'ENOENT')`: the only way this code asks for a system error. */
export function isErrno(value: unknown, ...names: readonly string[]): value is NodeJS.ErrnoException {
  if (!(value instanceof Error)) return false
  const { code, errno }: NodeJS.ErrnoException = value
  return names.some((name) => code === name || (errno !== undefined && UNNAMED[name] === errno))
}
