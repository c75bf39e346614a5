import type { LeftLayer } from 'loamfs'
import type { Log } from './log.ts'

/** Returns what logs layers that are left to containerd. */
export function logLeft(log: Log): (left: LeftLayer) => void {
  return ({ image, ref, cause, reason, remedy }) => {
    log.warn('left a layer to containerd', { image, ref, cause, reason, remedy })
  }
}
