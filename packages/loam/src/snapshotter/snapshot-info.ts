import type { SnapshotKind, SnapshotRecord } from '../metadata/index.ts'

/** What is known of a snapshot (containerd core/snapshots, Info). */
export interface SnapshotInfo {
  readonly kind: SnapshotKind
  /** Any text that is not empty. */
  readonly name: string
  /** Empty for none. */
  readonly parent: string
  readonly labels: Readonly<Record<string, string>>
  /** Microseconds since 1970. */
  readonly createdUs: number
  readonly updatedUs: number
}

/** How a snapshot is to be mounted; nobody has mounted it yet. Options are those of mount(8). */
export interface SnapshotMount {
  readonly type: 'bind' | 'overlay'
  readonly source: string
  readonly options: readonly string[]
}

/** What a snapshot alone takes of the disk, in bytes and inodes. */
export interface SnapshotUsage {
  readonly sizeBytes: number
  readonly inodes: number
}

/** Mounts that were made again, and what could not be, with the reason. */
export interface MountsReport {
  readonly restored: readonly string[]
  readonly failed: readonly { readonly what: string; readonly reason: string }[]
}

export function toInfo({ kind, key, parent, labels, createdUs, updatedUs }: SnapshotRecord): SnapshotInfo {
  return { kind, name: key, parent, labels, createdUs, updatedUs }
}
