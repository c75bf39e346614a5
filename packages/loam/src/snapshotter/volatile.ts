/*
 * Snapshots that are written to through a mount with `volatile`: nothing of them is synced, so that they may be damaged after a crash. overlayfs leaves a
 * directory behind and mounts the snapshot only once. Within one boot that is needless: all that was written is there.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isErrno, LoamError } from '../errors/index.ts'
import type { StorePaths } from '../content/index.ts'
import { readStored, removeTreeSync } from '../linux/index.ts'
import type { SnapshotRecord } from '../metadata/index.ts'
import { quote } from './errors.ts'

/** The boot in which a snapshot was last mounted so. */
const MARK = 'volatile'
const OPTIONS: readonly string[] = ['volatile', 'fsync=volatile']

/** The directories of an active snapshot. */
export interface VolatileDirectories {
  readonly directory: string
  readonly work: string
  readonly bootId: string
}

/**
 * Checks a snapshot before its files are used; `attempted` says for what, as a verb. @throws SNAPSHOT_INVALID for an active one that was written to
 * through a volatile mount in another boot
 */
export function requireIntact(
  paths: StorePaths,
  { id, key, kind }: Pick<SnapshotRecord, 'id' | 'key' | 'kind'>,
  { attempted, bootId }: { readonly attempted: string; readonly bootId: string },
): void {
  if (kind !== 'active') return
  const boot = readMark(join(paths.snapshots, String(id)))
  if (boot === undefined || boot === bootId) return
  throw new LoamError(
    'SNAPSHOT_INVALID',
    `${attempted} snapshot ${quote(key)}: it was mounted with the option volatile when the machine stopped, and may be damaged`,
    { hint: 'Remove it and create a new one. Without volatile in mount_options snapshots survive a crash.' },
  )
}

/** Prepares an active snapshot for a mount with options. */
export function prepareForMount(
  options: readonly string[],
  { directory, work, bootId }: VolatileDirectories,
): void {
  if (!options.some((option) => OPTIONS.includes(option)) && readMark(directory) === undefined) return
  writeFileSync(join(directory, MARK), bootId)
  // overlayfs creates it (fs/overlayfs/super.c).
  removeTreeSync(join(work, 'work', 'incompat', 'volatile'))
}

function readMark(directory: string): string | undefined {
  try {
    return readStored(join(directory, MARK), 'SNAPSHOT_INVALID').toString('utf8')
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}
