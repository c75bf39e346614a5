import { MIN_SIZE_BYTES } from '../backends/index.ts'
import { isLoamError, LoamError } from '../errors/index.ts'
import { type IdMapping, parseIdMapping, parseIdMappingKey } from '../linux/index.ts'
import type { SnapshotRecord } from '../metadata/index.ts'

/** Labels of a snapshot, by key. */
export type Labels = Readonly<Record<string, string>>

/** Limit of key and value together, as in containerd. */
const MAX_LABEL_BYTES = 4096
const MAX_LABELS = 1000

/** The label by which a remote-aware client names the layer of an active snapshot. */
export const SNAPSHOT_REF = 'containerd.io/snapshot.ref'
const UID_MAPPING = 'containerd.io/snapshot/uidmapping'
const GID_MAPPING = 'containerd.io/snapshot/gidmapping'
/** The bytes that may be written to an active snapshot, from containerd 2.4 on. */
const MAX_SIZE = 'containerd.io/snapshot/max-size'
/** The folder with a container's changes, for programs outside (`upperdir_label` of containerd's overlayfs). */
export const UPPERDIR = 'containerd.io/snapshot/overlay.upperdir'

/** Returns labels as they are stored, without those of an empty value. @throws SNAPSHOT_INVALID for labels that are too large */
export function checkLabels(labels: Labels): Labels {
  const entries = Object.entries(labels).filter(([, value]) => value !== '')
  if (entries.length > MAX_LABELS) throw invalid(`more than ${MAX_LABELS} labels`)
  for (const [key, value] of entries) {
    if (key === '') throw invalid('a label without a name')
    const bytes = Buffer.byteLength(key) + Buffer.byteLength(value)
    if (bytes > MAX_LABEL_BYTES) {
      throw invalid(
        `label ${JSON.stringify(key.slice(0, 64))} has ${bytes} bytes, the limit is ${MAX_LABEL_BYTES}`,
      )
    }
  }
  return Object.fromEntries(entries)
}

/**
 * Returns the labels after an update: without paths, or by the path `labels`, all are replaced; by `labels.<key>` only that one, which is removed if
 * it is not among the new ones. @throws SNAPSHOT_INVALID for other paths
 */
export function updateLabels(current: Labels, wanted: Labels, paths: readonly string[]): Labels {
  const keys = paths.map((path) => (path === 'labels' ? undefined : keyOfPath(path)))
  if (keys.length === 0 || keys.includes(undefined)) return checkLabels(wanted)
  const labels = new Map(Object.entries(current))
  for (const key of keys) {
    if (key === undefined) continue
    const value = Object.hasOwn(wanted, key) ? wanted[key] : undefined
    if (value === undefined) labels.delete(key)
    else labels.set(key, value)
  }
  return checkLabels(Object.fromEntries(labels))
}

/** @throws SNAPSHOT_INVALID for a path that is not one of a label */
function keyOfPath(path: string): string {
  const key = path.startsWith('labels.') ? path.slice('labels.'.length) : ''
  if (key === '') throw invalid(`${JSON.stringify(path.slice(0, 200))} cannot be changed`)
  return key
}

/**
 * Returns the bytes that labels allow to be written; undefined for no limit. As in containerd, a value that is not a positive number is no limit; a limit
 * that is too small to be kept becomes the smallest one.
 */
export function maxBytesOf(labels: Labels): number | undefined {
  const text = labels[MAX_SIZE] ?? ''
  const bytes = /^\+?\d+$/.test(text) ? Number(text) : 0
  return bytes > 0 && Number.isSafeInteger(bytes) ? Math.max(bytes, MIN_SIZE_BYTES) : undefined
}

/** Returns the mapping of IDs that labels ask for; undefined for none, or for one of users or groups alone. @throws SNAPSHOT_INVALID */
export function idMappingOf(labels: Labels): IdMapping | undefined {
  const [uids, gids] = [labels[UID_MAPPING], labels[GID_MAPPING]]
  return uids === undefined || gids === undefined ? undefined : parseIdMapping(uids, gids, invalid)
}

/** Returns the mapping that a snapshot was created with; undefined for none, and for an invalid one, which older versions recorded. */
export function storedMapping({ idMapping }: Pick<SnapshotRecord, 'idMapping'>): IdMapping | undefined {
  try {
    return idMapping === undefined ? undefined : parseIdMappingKey(idMapping, invalid)
  } catch (error) {
    if (isLoamError(error, 'SNAPSHOT_INVALID')) return undefined
    throw error
  }
}

function invalid(why: string): LoamError {
  return new LoamError('SNAPSHOT_INVALID', `label snapshot: ${why}`)
}
