import { toLoamError } from '../errors/index.ts'
import { report } from './report.ts'

/**
 * Runs an action again and again while the process lives. One that fails, for example because there is no descriptor left, is reported and runs at its
 * next time: the handler must not end while reads wait for it. The same failure in a row is reported once.
 */
export function runPeriodically(action: string, periodMs: number, act: () => void): void {
  let reported = ''
  const run = () => {
    try {
      act()
      reported = ''
    } catch (error) {
      const { message } = toLoamError(error, action)
      if (message !== reported) report(message)
      reported = message
    }
  }
  setInterval(run, periodMs).unref()
}
