/** A range of IDs of a container, and the IDs of this machine that they are. */
export interface IdRange {
  /** First ID in the container. */
  readonly container: number
  /** First ID on this machine. */
  readonly host: number
  /** How many IDs; at least 1. */
  readonly length: number
}

/** The IDs of a user namespace: a container's users and groups, and those of this machine that they are. */
export interface IdMapping {
  /** Sorted by the container's IDs. */
  readonly uids: readonly IdRange[]
  /** Sorted by the container's IDs. */
  readonly gids: readonly IdRange[]
  /** Both as they were given, `UIDS/GIDS`: the same text is the same mapping. */
  readonly key: string
}

/** A file without an ID in the container: /proc/sys/kernel/overflowuid. */
export const NOBODY = 65534

/** The kernel takes 340 lines (UID_GID_MAP_MAX_EXTENTS) in less than a page. */
const MAX_RANGES = 340
const MAX_BYTES = 4095
/** 2³² - 1 is not an ID: it means "leave it as it is" to chown(2). */
const END_OF_IDS = 2 ** 32 - 1
const RANGE = /^(\d{1,10}):(\d{1,10}):(\d{1,10})$/

/**
 * Parses the mappings of users and groups, `CONTAINER:HOST:LENGTH[,…]` each. Throws what `invalid` returns for an invalid text, for ranges
 * that overlap, and for a mapping without the ID 0 of the container.
 */
export function parseIdMapping(uids: string, gids: string, invalid: (why: string) => Error): IdMapping {
  return { uids: parseRanges(uids, invalid), gids: parseRanges(gids, invalid), key: `${uids}/${gids}` }
}

/** Parses the key of a mapping. Throws what `invalid` returns. */
export function parseIdMappingKey(key: string, invalid: (why: string) => Error): IdMapping {
  const [uids = '', gids = ''] = key.split('/')
  return parseIdMapping(uids, gids, invalid)
}

function parseRanges(text: string, invalid: (why: string) => Error): IdRange[] {
  const shown = JSON.stringify(text.slice(0, 200))
  const ranges = text.split(',').map((part) => {
    const [, container, host, length] = RANGE.exec(part) ?? []
    if (container === undefined) throw invalid(`${shown} is not an ID mapping, CONTAINER:HOST:LENGTH[,…]`)
    return { container: Number(container), host: Number(host), length: Number(length) }
  })
  if (ranges.length > MAX_RANGES)
    throw invalid(`an ID mapping has ${ranges.length} ranges, the limit is ${MAX_RANGES}`)
  if (formatRanges(ranges).length > MAX_BYTES)
    throw invalid(`an ID mapping has ${formatRanges(ranges).length} bytes, the kernel takes ${MAX_BYTES}`)
  for (const { container, host, length } of ranges) {
    if (length === 0) throw invalid(`${shown} has a range of length 0`)
    if (Math.max(container, host) + length > END_OF_IDS)
      throw invalid(`${shown} maps IDs past ${END_OF_IDS - 1}, the last one`)
  }
  for (const side of ['container', 'host'] as const) {
    const sorted = ranges.toSorted((a, b) => a[side] - b[side])
    const overlapping = sorted.find((range, index) => {
      const next = sorted[index + 1]
      return next !== undefined && range[side] + range.length > next[side]
    })
    if (overlapping !== undefined)
      throw invalid(`${shown} has ranges that overlap: ${side} ID ${overlapping[side]} and others`)
  }
  if (!ranges.some(({ container }) => container === 0)) throw invalid(`${shown} does not map 0`)
  return ranges.toSorted((a, b) => a.container - b.container)
}

/** Formats ranges as the kernel takes them in uid_map and gid_map (user_namespaces(7)). */
export function formatRanges(ranges: readonly IdRange[]): string {
  return ranges.map(({ container, host, length }) => `${container} ${host} ${length}\n`).join('')
}

/** Returns the ID of this machine for an ID of the container; undefined if it has none. */
export function toHostId(ranges: readonly IdRange[], id: number): number | undefined {
  const range = ranges.find(({ container, length }) => id >= container && id - container < length)
  return range === undefined ? undefined : range.host + id - range.container
}

/** The owner of a file. */
export interface FileOwner {
  readonly uid: number
  readonly gid: number
}

/** Returns the owner on this machine for one of the container; nobody for IDs that it does not have. */
export function toHostOwner({ uids, gids }: IdMapping, { uid, gid }: FileOwner): FileOwner {
  return { uid: toHostId(uids, uid) ?? NOBODY, gid: toHostId(gids, gid) ?? NOBODY }
}

/** Returns the owner in the container for one of this machine; nobody for IDs that it does not have. */
export function toContainerOwner({ uids, gids }: IdMapping, { uid, gid }: FileOwner): FileOwner {
  return { uid: toContainerId(uids, uid) ?? NOBODY, gid: toContainerId(gids, gid) ?? NOBODY }
}

/** Returns the owner on this machine for root of the container, which every mapping has. */
export function hostRoot(mapping: IdMapping): FileOwner {
  return toHostOwner(mapping, { uid: 0, gid: 0 })
}

/** Returns the container's ID for an ID of this machine; undefined if it has none. */
export function toContainerId(ranges: readonly IdRange[], id: number): number | undefined {
  const range = ranges.find(({ host, length }) => id >= host && id - host < length)
  return range === undefined ? undefined : range.container + id - range.host
}
