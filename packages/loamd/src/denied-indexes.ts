import type { ActivityEvent } from 'loamfs'
import { DENY_OPERATION } from 'loamfs/internal'
import type { Log } from './log.ts'

/** Returns an observer that logs lazy indexes that were denied, with the containers that show their layers. */
export function logDenied(log: Log): (event: ActivityEvent) => void {
  return (event) => {
    if (event.kind !== 'start' || event.operation !== DENY_OPERATION) return
    const { layer, index, reason, containers, snapshots } = event.attributes
    log.warn('denied a lazy index', { layer, index, error: reason, containers, snapshots })
  }
}
