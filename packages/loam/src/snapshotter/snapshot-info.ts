import type { Failure } from '../errors/index.ts'
import type { SnapshotKind, SnapshotRecord } from '../metadata/index.ts'

/** What is known of a snapshot (containerd core/snapshots, Info). */
export interface SnapshotInfo {
  /** Whether it is written to (`active`), read (`view`), or a parent of others (`committed`). */
  readonly kind: SnapshotKind
  /** Any text that is not empty. */
  readonly name: string
  /** Empty for none. */
  readonly parent: string
  /** Labels of the client. */
  readonly labels: Readonly<Record<string, string>>
  /** Microseconds since 1970. */
  readonly createdUs: number
  /** Microseconds since 1970. */
  readonly updatedUs: number
}

/** How a snapshot is to be mounted; nobody has mounted it yet. Options are those of mount(8). */
export interface SnapshotMount {
  /** Type of the mount. */
  readonly type: 'bind' | 'overlay'
  /** What is mounted; `overlay` for an overlay. */
  readonly source: string
  /** Options, each as mount(8) takes it. */
  readonly options: readonly string[]
}

/** What a snapshot alone takes of the disk, in bytes and inodes. */
export interface SnapshotUsage {
  /** Bytes of blocks, or of the tar of a layer. */
  readonly sizeBytes: number
  /** Files, directories and links. */
  readonly inodes: number
}

/** Mounts that were made again, and what could not be, with the reason. */
export interface MountsReport {
  /** Paths of the mounts. */
  readonly restored: readonly string[]
  /** What could not be mounted. */
  readonly failed: readonly Failure[]
}

export function toInfo({ kind, key, parent, labels, createdUs, updatedUs }: SnapshotRecord): SnapshotInfo {
  return { kind, name: key, parent: parent ?? '', labels, createdUs, updatedUs }
}
