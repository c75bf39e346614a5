import { LoamError } from '../errors/index.ts'

/** Labels of a snapshot, by key. */
export type Labels = Readonly<Record<string, string>>

/** Limit of key and value together, as in containerd. */
const MAX_LABEL_BYTES = 4096
const MAX_LABELS = 1000

/** The label by which a remote-aware client names the layer of an active snapshot. */
export const SNAPSHOT_REF = 'containerd.io/snapshot.ref'
export const UID_MAPPING = 'containerd.io/snapshot/uidmapping'
export const GID_MAPPING = 'containerd.io/snapshot/gidmapping'
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
  if (paths.length === 0 || paths.includes('labels')) return checkLabels(wanted)
  const labels = new Map(Object.entries(current))
  for (const path of paths) {
    const key = path.startsWith('labels.') ? path.slice('labels.'.length) : ''
    if (key === '') throw invalid(`${JSON.stringify(path.slice(0, 200))} cannot be changed`)
    const value = Object.hasOwn(wanted, key) ? wanted[key] : undefined
    if (value === undefined) labels.delete(key)
    else labels.set(key, value)
  }
  return checkLabels(Object.fromEntries(labels))
}

/** Parses `container:host:length[,…]` and returns the host's id for id 0 of the container. @throws SNAPSHOT_INVALID */
export function mappedRoot(mapping: string): number {
  for (const part of mapping.split(',')) {
    const [, container, host] = /^(\d{1,10}):(\d{1,10}):(\d{1,10})$/.exec(part.trim()) ?? []
    if (container === undefined)
      throw invalid(`${JSON.stringify(mapping.slice(0, 200))} is not an ID mapping`)
    if (Number(container) === 0) return Number(host)
  }
  throw invalid(`${JSON.stringify(mapping.slice(0, 200))} does not map 0`)
}

function invalid(why: string): LoamError {
  return new LoamError('SNAPSHOT_INVALID', `label snapshot: ${why}`)
}
