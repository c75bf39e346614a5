import type { Activity } from '../activity/index.ts'
import type { DeniedLayer } from './protocol.ts'

/** The operation that observers are told about when the lazy index of a layer has turned out to be wrong. */
export const DENY_OPERATION = 'layers.denyIndex'

/** Tells observers of a layer whose lazy index is wrong: all its reads fail from now on. */
export async function tellDenied(
  activity: Activity,
  { diffId, indexDigest, reason, containers, snapshots }: DeniedLayer,
): Promise<void> {
  const shownBy = { containers: containers.join(', '), snapshots: snapshots.join(', ') }
  await activity.observe(
    DENY_OPERATION,
    { layer: diffId, index: indexDigest, reason, ...shownBy },
    async () => undefined,
  )
}
