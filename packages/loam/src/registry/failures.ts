import type { Proxy } from './proxies.ts'

/** The place where a request failed: the host, or the proxy in between. */
export interface FailurePlace {
  readonly host: string
  readonly proxy?: Proxy | undefined
}

const PLACE = Symbol('place')

/** Records on an error where it occurred. The first record stays, because it is the most exact. */
export function failedAt<T>(error: T, place: FailurePlace): T {
  if (error instanceof Error && !(PLACE in error)) Object.assign(error, { [PLACE]: place })
  return error
}

/** Returns where an error occurred, if that is known. */
export function placeOf(error: unknown): FailurePlace | undefined {
  return error instanceof Error && PLACE in error ? (error[PLACE] as FailurePlace) : undefined
}
