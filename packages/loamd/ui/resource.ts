import { type ReadonlySignal, signal } from '@preact/signals'
import { ApiError } from './api.ts'

/** An object of the daemon that is shown, and loaded again when it may have changed. */
export interface Resource<Value> {
  /** Undefined until it is loaded for the first time. */
  readonly value: ReadonlySignal<Value | undefined>
  /** Why the last attempt failed. */
  readonly error: ReadonlySignal<ApiError | undefined>
  /** Loads it. A call while it is being loaded loads it once more afterwards. */
  readonly refresh: () => Promise<void>
}

/** Creates a resource that is empty until `refresh` is called. */
export function createResource<Value>(load: () => Promise<Value>): Resource<Value> {
  const value = signal<Value | undefined>(undefined)
  const error = signal<ApiError | undefined>(undefined)
  let running: Promise<void> | undefined
  let mustRepeat = false
  const run = async () => {
    do {
      mustRepeat = false
      try {
        value.value = await load()
        error.value = undefined
      } catch (thrown) {
        error.value = toApiError(thrown)
      }
    } while (mustRepeat)
    running = undefined
  }
  const refresh = async () => {
    mustRepeat = running !== undefined
    running ??= run()
    return running
  }
  return { value, error, refresh }
}

/** Returns any thrown value as an error that can be shown. */
export function toApiError(error: unknown): ApiError {
  return error instanceof ApiError ? error : new ApiError(String(error), 0)
}
