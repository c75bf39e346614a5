/** What is done around each call of a guarded object. */
export interface CallGuard {
  /** Runs before a call: what it throws is the failure of the call. */
  readonly check: (call: string, args: readonly unknown[]) => void
  /** Runs an asynchronous call. */
  readonly run: (act: () => Promise<unknown>) => Promise<unknown>
}

/** Returns an object with the methods of another one, and of the parts of it that are named, whose calls a guard checks and runs. */
export function guardCalls<Door extends object>(
  door: Door,
  parts: readonly (keyof Door)[],
  guard: CallGuard,
): Door {
  const methods = new Map<unknown, (...args: unknown[]) => unknown>()
  return new Proxy(door, {
    get: (target, name) => {
      const value: unknown = Reflect.get(target, name, target)
      if (typeof value === 'object' && value !== null && parts.some((part) => part === name))
        return guardCalls(value, [], guard)
      if (typeof value !== 'function' || name === 'constructor') return value
      const known = methods.get(name)
      if (known !== undefined) return known
      const act = (args: readonly unknown[]) => {
        guard.check(String(name), args)
        return value.apply(target, args) as unknown
      }
      const call = isAsync(value)
        ? async (...args: unknown[]) => guard.run(async () => act(args))
        : (...args: unknown[]) => act(args)
      methods.set(name, call)
      return call
    },
  })
}

function isAsync(method: object): boolean {
  return Object.prototype.toString.call(method) === '[object AsyncFunction]'
}
