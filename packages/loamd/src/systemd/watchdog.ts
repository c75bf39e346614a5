import type { Log } from '../log.ts'
import type { Notifier } from './notifier.ts'

export interface WatchdogOptions {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly notifier: Notifier
  /** Checks that the daemon works. */
  readonly check: () => Promise<void>
  readonly log: Log
}

/**
 * Notifies the service manager, at half of the requested period, that the daemon works: that its event loop runs, and that `check` succeeds.
 * No message follows a check that fails or does not end, so that the manager restarts the daemon (sd_watchdog_enabled(3)).
 * Does nothing if the manager does not watch this process.
 */
export function startWatchdog({ env, notifier, check, log }: WatchdogOptions): Disposable {
  const periodMs = periodOf(env)
  if (periodMs === undefined) return { [Symbol.dispose]: () => undefined }
  let isChecking = false
  const tick = async () => {
    if (isChecking) return
    isChecking = true
    try {
      await check()
      notifier.send({ WATCHDOG: 1 })
    } catch (error) {
      log.error('the watchdog found the daemon not working', {
        error: error instanceof Error ? error.message : String(error),
      })
    } finally {
      isChecking = false
    }
  }
  const timer = setInterval(() => void tick(), periodMs / 2).unref()
  void tick()
  return {
    [Symbol.dispose]: () => {
      clearInterval(timer)
    },
  }
}

function periodOf(env: WatchdogOptions['env']): number | undefined {
  const { WATCHDOG_USEC: microseconds, WATCHDOG_PID: pid } = env
  if (pid !== undefined && pid !== String(process.pid)) return undefined
  const periodMs = Number(microseconds) / 1000
  return Number.isFinite(periodMs) && periodMs > 0 ? periodMs : undefined
}
