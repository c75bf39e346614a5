import type { Xattr } from '../tree/index.ts'
import {
  MAX_SHARED_XATTRS,
  MAX_XATTR_BODY_BYTES,
  MAX_XATTR_VALUE_BYTES,
  roundUp,
  XATTR_ENTRY_BYTES,
  XATTR_HEADER_BYTES,
  XATTR_PREFIXES,
  invalid,
} from './format.ts'

/** A larger set is stored apart from the inode, however many inodes have it. */
const MAX_INLINE_BYTES = 1024
const MAX_NAME_BYTES = 255

/** The xattrs of one inode, as they are stored after it: some by number in the shared table, the others in full. */
export interface XattrBody {
  readonly shared: readonly number[]
  readonly inline: Buffer
}

const NO_XATTRS: XattrBody = { shared: [], inline: Buffer.alloc(0) }

function splitName(name: Buffer): { index: number; rest: Buffer } | undefined {
  const text = name.toString('latin1')
  for (const [index, prefix] of XATTR_PREFIXES) {
    const isWhole = !prefix.endsWith('.')
    if (isWhole ? text === prefix : text.startsWith(prefix) && text.length > prefix.length) {
      const rest = name.subarray(prefix.length)
      return rest.length <= MAX_NAME_BYTES ? { index, rest } : undefined
    }
  }
  return undefined
}

/** Returns the bytes of an inode's xattrs; 0 when it has none. */
export function xattrBodyBytes({ shared, inline }: XattrBody): number {
  const bytes = shared.length * 4 + inline.length
  return bytes === 0 ? 0 : XATTR_HEADER_BYTES + bytes
}

/** Writes an inode's xattrs. */
export function writeXattrBody({ shared, inline }: XattrBody, target: Buffer): void {
  if (target.length > MAX_XATTR_BODY_BYTES) throw invalid(`an inode with ${target.length} bytes of xattrs`)
  target.fill(0, 0, XATTR_HEADER_BYTES)
  target[4] = shared.length
  for (const [index, id] of shared.entries()) target.writeUInt32LE(id, XATTR_HEADER_BYTES + index * 4)
  inline.copy(target, XATTR_HEADER_BYTES + shared.length * 4)
}

/**
 * The xattrs of an image. Sets that several inodes have, and large ones, go into a table that inodes refer to; each
 * name with its value is in it once. First every inode's set is counted, then bodies are created.
 */
export class XattrTable {
  readonly #uses = new Map<readonly Xattr[], number>()
  readonly #bodies = new Map<readonly Xattr[], XattrBody>()
  readonly #ids = new Map<string, number>()
  readonly #entries: Buffer[] = []
  #bytes = 0

  /** The shared table so far. */
  get entries(): readonly Buffer[] {
    return this.#entries
  }

  get sharedBytes(): number {
    return this.#bytes
  }

  /** Counts a set; equal sets are one object (FileTree.xattrs). */
  count(set: readonly Xattr[]): void {
    if (set.length > 0) this.#uses.set(set, (this.#uses.get(set) ?? 0) + 1)
  }

  /** Puts the sets that are to be shared into the table. */
  share(): void {
    for (const set of this.#uses.keys()) this.#bodies.set(set, this.#makeBody(set, []))
  }

  /** Returns the body of a set that was counted, with the inode's own xattrs; adds their values to the table if needed. */
  body(set: readonly Xattr[], own: readonly Xattr[]): XattrBody {
    if (own.length > 0) return this.#makeBody(set, own)
    return this.#bodies.get(set) ?? NO_XATTRS
  }

  /** If there are more than can be shared, the largest are: for the others there is room after the inode. */
  #makeBody(set: readonly Xattr[], own: readonly Xattr[]): XattrBody {
    const isUsedOften = (this.#uses.get(set) ?? 0) > 1
    const [common, alone] = [set.map(encodeEntry), own.map(encodeEntry)]
    const canShare = (entries: readonly Buffer[], isWanted: boolean) =>
      isWanted || sizeOf(entries) > MAX_INLINE_BYTES
    const shareable = [
      ...(canShare(common, isUsedOften) ? common : []),
      ...(canShare(alone, false) ? alone : []),
    ]
    const shared = new Set(
      shareable.length <= MAX_SHARED_XATTRS
        ? shareable
        : shareable.toSorted((a, b) => b.length - a.length).slice(0, MAX_SHARED_XATTRS),
    )
    return {
      shared: [...shared].map((entry) => this.#idOf(entry)),
      inline: Buffer.concat([...common, ...alone].filter((entry) => !shared.has(entry))),
    }
  }

  #idOf(entry: Buffer): number {
    const key = entry.toString('latin1')
    const known = this.#ids.get(key)
    if (known !== undefined) return known
    const id = this.#bytes / 4
    this.#ids.set(key, id)
    this.#entries.push(entry)
    this.#bytes += entry.length
    return id
  }
}

function sizeOf(entries: readonly Buffer[]): number {
  return entries.reduce((sum, { length }) => sum + length, 0)
}

function encodeEntry({ name, value }: Xattr): Buffer {
  const parts = splitName(name)
  if (parts === undefined || value.length > MAX_XATTR_VALUE_BYTES)
    throw invalid(`an xattr cannot be kept: ${name.toString('latin1')} of ${value.length} bytes`)
  const { index, rest } = parts
  const entry = Buffer.alloc(roundUp(XATTR_ENTRY_BYTES + rest.length + value.length, 4))
  entry[0] = rest.length
  entry[1] = index
  entry.writeUInt16LE(value.length, 2)
  rest.copy(entry, XATTR_ENTRY_BYTES)
  value.copy(entry, XATTR_ENTRY_BYTES + rest.length)
  return entry
}
