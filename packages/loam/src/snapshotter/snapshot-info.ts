import type { Failure } from '../errors/index.ts'
import type { DiffId } from '../image/index.ts'
import type { SnapshotKind, SnapshotRecord } from '../metadata/index.ts'

/** Information about a snapshot (containerd core/snapshots, Info). */
export interface SnapshotInfo {
  /** Whether it is written to (`active`), read (`view`), or a parent of others (`committed`). */
  readonly kind: SnapshotKind
  /** Its key or name: any text that is not empty. */
  readonly name: string
  /** Key of the parent; empty for none. */
  readonly parent: string
  /** The layer that it is, if that is not unpacked. Undefined: its files are in a folder. */
  readonly diffId: DiffId | undefined
  /** Labels of the client. */
  readonly labels: Readonly<Record<string, string>>
  /** Microseconds since 1970. */
  readonly createdUs: number
  /** Microseconds since 1970. */
  readonly updatedUs: number
}

/** How the caller mounts a snapshot. Options are those of mount(8). */
export interface SnapshotMount {
  /** Type of the mount. `format/overlay`: an overlay with `{{ mount 0 }}` in its options, which is where the first mount of the list is (containerd 2.2). */
  readonly type: 'bind' | 'overlay' | 'erofs' | 'format/overlay'
  /** Source of the mount: a directory, the file of an EROFS image, or `overlay`. */
  readonly source: string
  /** Options of mount(8). */
  readonly options: readonly string[]
}

/** Disk usage of a snapshot without its parents, in bytes and inodes. */
export interface SnapshotUsage {
  /** Bytes of blocks, or of the tar of a layer. */
  readonly sizeBytes: number
  /** Files, directories and links. */
  readonly inodes: number
}

/** Mounts that were restored, and those that could not be, with the reason. */
export interface MountsReport {
  /** Paths of the mounts. */
  readonly restored: readonly string[]
  /** Mounts that could not be restored. */
  readonly failed: readonly Failure[]
}

export function toInfo(snapshot: SnapshotRecord): SnapshotInfo {
  const { kind, key, parent, diffId, labels, createdUs, updatedUs } = snapshot
  return { kind, name: key, parent: parent ?? '', diffId, labels, createdUs, updatedUs }
}
