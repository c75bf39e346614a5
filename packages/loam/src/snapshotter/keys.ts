import { type SnapshotKey, snapshotKey } from '../metadata/index.ts'

/** The directory of a snapshot. */
export interface Place {
  readonly key: SnapshotKey
  readonly parent: SnapshotKey | undefined
}

/** Returns whether a client unpacks a layer to a snapshot: by its key (containerd core/snapshots, UnpackKeyPrefix), behind the namespace and the number. */
export function isUnpackedTo(key: SnapshotKey): boolean {
  return /(?:^|\/)extract-/.test(key)
}

/** Returns the key of a parent; undefined for an empty text, which for containerd means no parent. */
export function parentKey(text: string): SnapshotKey | undefined {
  return text === '' ? undefined : snapshotKey(text)
}
