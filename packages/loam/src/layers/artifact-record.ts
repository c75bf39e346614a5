import type { Digest } from '../image/index.ts'
import type { ArtifactRecord } from '../metadata/index.ts'
import { TREE_GENERATION } from '../tree/index.ts'
import type { ArtifactKind } from '../content/index.ts'

/** The row of something that was just made, and counts in this boot alone until it is known to be on the disk. */
export function newArtifactRecord(owner: Digest, kind: ArtifactKind, bootId: string): ArtifactRecord {
  return { owner, kind, bootId, isDurable: false, createdAtMs: Date.now(), generation: TREE_GENERATION }
}
