import { closeSync, constants } from 'node:fs'
import { isErrno, LoamError } from '../errors/index.ts'
import { type ListedName, type Listing, SortedListing, StoredListing } from './directory-listing.ts'
import { FileStat } from './file-stat.ts'
import { libc, O_CLOEXEC } from './libc.ts'

const OPEN_DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW | O_CLOEXEC
/** Directories below the top one that are open at a time; a container may make any number in each other. */
const MAX_OPEN = 64
const MAX_SHOWN_NAMES = 20
const TOP = Buffer.from('.\0')
const PARENT = '..'
/** Errors for a directory that another process removes, moves or replaces during the walk. */
const GONE = ['ENOENT', 'ENOTDIR', 'ELOOP', 'ESTALE'] as const

/** The order of the names in each directory; `removing` for a walk that removes them. */
export type WalkOrder = 'sorted' | 'stored' | 'removing'

interface Level {
  /** Ends in NUL. */
  readonly name: Buffer
  readonly stat: FileStat
  readonly listing: Listing
  /** Undefined while it is closed. */
  fd: number | undefined
}

/**
 * A walk through a directory and all below it, for a tree that a hostile process changes meanwhile. Each name is one part and is reached through
 * a descriptor of its directory; no symlink is followed, and no mount below the top is entered. So the walk never leaves
 * the tree, whatever is renamed, replaced or mounted. A file that vanishes is not an error. It handles any depth and width: no recursion, no whole
 * paths, and 64 descriptors.
 */
export class TreeWalk implements Disposable {
  /** The top directory. */
  readonly top: FileStat
  readonly #order: WalkOrder
  readonly #levels: Level[] = []

  /** Takes over the descriptor of the top directory. */
  constructor(fd: number, order: WalkOrder) {
    this.#order = order
    try {
      this.top = FileStat.of(fd)
    } catch (error) {
      closeSync(fd)
      throw error
    }
    this.#levels.push({ name: TOP, stat: this.top, listing: this.#makeListing(), fd })
  }

  /** Depth of the current directory: 0 for the top. */
  get depth(): number {
    return this.#levels.length - 1
  }

  /** The descriptor of the directory that it is in. */
  get fd(): number {
    return this.#current.fd ?? -1
  }

  /** The name of the directory that it is in, in the one above; ends in NUL. */
  get name(): Buffer {
    return this.#current.name
  }

  /** The directory that it is in, as it was when it was entered. */
  get stat(): FileStat {
    return this.#current.stat
  }

  /** Shows the path of a name in this directory, or of the directory itself, below the top, for messages: of a long one the end. */
  quotePath(name: Buffer | undefined): string {
    const names = this.#levels.slice(1).map((level) => level.name.subarray(0, -1))
    if (name !== undefined) names.push(name)
    const isCut = names.length > MAX_SHOWN_NAMES
    return `${isCut ? '…/' : ''}${names.slice(-MAX_SHOWN_NAMES).join('/')}`
  }

  get #current(): Level {
    const level = this.#levels.at(-1)
    if (level === undefined) throw new LoamError('INTERNAL', 'the walk is over')
    return level
  }

  /** Returns the next name in this directory, undefined at its end. */
  next(): ListedName | undefined {
    const level = this.#current
    return level.listing.next(this.fd)
  }

  /**
   * Enters a directory by its name in this one, or by a descriptor for it. Returns false if it is gone, is not a directory (any more),
   * or belongs to another mount. @throws system errors
   */
  enter(name: Buffer, pathFd?: number): boolean {
    const fd = pathFd === undefined ? tryOpen(this.fd, name) : tryOpen(pathFd, TOP)
    if (fd === undefined) return false
    try {
      const stat = FileStat.of(fd)
      if (!stat.isInMountOf(this.top)) {
        closeSync(fd)
        return false
      }
      this.#levels.push({ name: Buffer.from(name), stat, listing: this.#makeListing(), fd })
    } catch (error) {
      closeSync(fd)
      throw error
    }
    // The top one stays open: from there all others can be reached.
    const closing = this.#levels.length - 1 - MAX_OPEN
    if (closing > 0) this.#suspend(this.#levels[closing])
    return true
  }

  #makeListing(): Listing {
    if (this.#order === 'sorted') return new SortedListing()
    return new StoredListing(this.#order === 'stored' ? 'where it was' : 'at the start')
  }

  #suspend(level: Level | undefined): void {
    if (level?.fd === undefined) return
    level.listing.suspend()
    closeSync(level.fd)
    level.fd = undefined
  }

  /** Goes back to the directory above; further up where that one is gone. */
  leave(): void {
    const left = this.#levels.pop()
    try {
      const level = this.#current
      if (level.fd === undefined) level.fd = openAbove(left?.fd, level.stat)
      if (level.fd === undefined) this.#openFromTop()
    } finally {
      if (left?.fd !== undefined) closeSync(left.fd)
    }
  }

  /**
   * Opens this level by the names of those above it, if `..` leads elsewhere: moving a directory moves its content with it.
   * Every directory with these names is in the tree. If one is gone, the walk continues at the last level before it.
   */
  #openFromTop(): void {
    const opened: number[] = []
    try {
      let parent = this.#levels[0]?.fd ?? -1
      for (const [index, { name }] of this.#levels.entries()) {
        if (index === 0) continue
        const fd = tryOpen(parent, name)
        if (fd !== undefined) opened.push(fd)
        if (fd === undefined || !FileStat.of(fd).isInMountOf(this.top)) {
          this.#levels.length = index
          break
        }
        if (opened.length > 1) closeSync(opened.shift() ?? -1)
        parent = fd
      }
      if (this.depth > 0) this.#current.fd = opened.shift()
    } finally {
      for (const fd of opened) closeSync(fd)
    }
  }

  [Symbol.dispose](): void {
    for (const { fd } of this.#levels) if (fd !== undefined) closeSync(fd)
    this.#levels.length = 0
  }
}

function tryOpen(dirFd: number, name: Buffer): number | undefined {
  try {
    return libc().openat(dirFd, name, OPEN_DIRECTORY, 0)
  } catch (error) {
    if (isErrno(error, ...GONE)) return undefined
    throw error
  }
}

/** Opens the directory above one, if it is still the one from which the walk entered it. */
function openAbove(fd: number | undefined, expected: FileStat): number | undefined {
  if (fd === undefined) return undefined
  let above: number
  try {
    above = libc().openat(fd, PARENT, OPEN_DIRECTORY, 0)
  } catch (error) {
    if (isErrno(error, ...GONE, 'EACCES')) return undefined
    throw error
  }
  const stat = FileStat.of(above)
  if (stat.identity === expected.identity && stat.isInMountOf(expected)) return above
  closeSync(above)
  return undefined
}
