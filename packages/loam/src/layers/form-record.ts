import type { Digest } from '../image/index.ts'
import type { FormRecord } from '../metadata/index.ts'
import { TREE_GENERATION } from '../tree/index.ts'
import type { LayerForm } from './tasks.ts'

/** The row of something that was just made, and counts in this boot alone until it is known to be on the disk. */
export function newFormRecord(owner: Digest, form: LayerForm, bootId: string): FormRecord {
  return { owner, form, bootId, isDurable: false, createdAtMs: Date.now(), generation: TREE_GENERATION }
}
