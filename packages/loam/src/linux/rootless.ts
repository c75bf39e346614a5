import { readFileSync } from 'node:fs'
import { formatRanges, type IdMapping } from './id-mapping.ts'
import { effectiveUser, isRoot } from './system.ts'

/** Name of the variable by which `bin/namespace.cjs` says how a command of a user who is not root was started. */
export const ROOTLESS_VARIABLE = 'LOAM_ROOTLESS'

/** How a user who is not root works. */
export interface Rootless {
  /** The user's own ID on this machine. */
  readonly uid: number
  /** The ID of the user's group. */
  readonly gid: number
  /** IDs of the user namespace: the user's own and subordinate ones, only the user's own, or that there is no namespace. */
  readonly ids: 'subordinate' | 'single' | 'none'
  /** Why there are not more IDs. */
  readonly why?: string
}

/** A range of IDs in the user namespace of this process, as user_namespaces(7) shows it. */
interface MappedRange {
  readonly first: number
  readonly outside: number
  readonly count: number
}

const ALL_IDS = 0xffffffff
/** The owner of the files of users whom a user namespace does not have, unless the machine is set to another one. */
const UNKNOWN_USER = 65534

/** Returns whether this process is root of the machine: not only of a user namespace, in which no disks, devices or trusted xattrs exist. */
export function isMachineRoot(): boolean {
  return isRoot() && hasAllIds()
}

/** Returns whether an owner stands for the users whom the user namespace of this process does not have, root of the machine among them. */
export function isUnknownUser(uid: number): boolean {
  return uid === UNKNOWN_USER && !hasAllIds()
}

function hasAllIds(): boolean {
  const [range] = readMap('uid_map')
  return range?.first === 0 && range.outside === 0 && range.count === ALL_IDS
}

/** Returns whether this process is root of a user namespace. */
export function isNamespaceRoot(): boolean {
  return isRoot() && !isMachineRoot()
}

/** Returns whether this process may give files to other users: without that it records the owners. */
export function canGiveFiles(): boolean {
  return isRoot() && countOf(readMap('uid_map')) > 1
}

/** Returns the IDs of the user namespace of this process as a mapping to themselves, for a user namespace in it; undefined for root of the machine. */
export function idsOfNamespace(): IdMapping | undefined {
  if (!isNamespaceRoot()) return undefined
  const same = ({ first, count }: MappedRange) => ({ container: first, host: first, length: count })
  const [uids, gids] = [readMap('uid_map').map(same), readMap('gid_map').map(same)]
  return { uids, gids, key: `${formatRanges(uids)}/${formatRanges(gids)}` }
}

/** Returns whether the user namespace of this process has a user and a group. */
export function hasIds({ uid, gid }: { readonly uid: number; readonly gid: number }): boolean {
  return isIn(readMap('uid_map'), uid) && isIn(readMap('gid_map'), gid)
}

/** Returns the name of an xattr of overlayfs: root of a user namespace has those of users (`userxattr`). */
export function overlayXattr(name: string): string {
  return `${isNamespaceRoot() ? 'user' : 'trusted'}.overlay.${name}`
}

/** Returns the ID on this machine of the user of this process. */
export function ownUser(env: Readonly<Record<string, string | undefined>>): number {
  return readRootless(env)?.uid ?? effectiveUser()
}

/** Returns how a user who is not root works: as the environment says if that is true of this process. Undefined for root. */
export function readRootless(env: Readonly<Record<string, string | undefined>>): Rootless | undefined {
  const said = parse(env[ROOTLESS_VARIABLE])
  const uid = effectiveUser()
  if (said !== undefined && uid === 0 && readMap('uid_map').some((range) => isOwn(range, said.uid)))
    return said
  if (uid === 0) return undefined
  if (said?.uid === uid) return { ...said, ids: 'none' }
  return { uid, gid: process.getegid?.() ?? 0, ids: 'none' }
}

function isOwn({ first, outside, count }: MappedRange, uid: number): boolean {
  return first === 0 && outside === uid && count === 1
}

function parse(text: string | undefined): Rootless | undefined {
  try {
    const { uid, gid, ids, why } = JSON.parse(text ?? 'null') as Record<string, unknown>
    if (typeof uid !== 'number' || typeof gid !== 'number') return undefined
    return {
      uid,
      gid,
      ids: ids === 'subordinate' || ids === 'single' ? ids : 'none',
      ...(typeof why === 'string' ? { why } : {}),
    }
  } catch {
    // Another program has set it.
    return undefined
  }
}

function isIn(ranges: readonly MappedRange[], id: number): boolean {
  return ranges.some(({ first, count }) => id >= first && id < first + count)
}

function countOf(ranges: readonly MappedRange[]): number {
  return ranges.reduce((sum, { count }) => sum + count, 0)
}

const known: { uid_map?: MappedRange[]; gid_map?: MappedRange[] } = {}

/** The IDs of a process do not change. */
function readMap(file: 'uid_map' | 'gid_map'): MappedRange[] {
  known[file] ??= parseMap(file)
  return known[file]
}

function parseMap(file: 'uid_map' | 'gid_map'): MappedRange[] {
  return readFileSync(`/proc/self/${file}`, 'utf8')
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const [first = 0, outside = 0, count = 0] = line.trim().split(/\s+/).map(Number)
      return { first, outside, count }
    })
}
