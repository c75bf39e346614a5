/*
 * The names in a directory, as getdents64(2) returns them (linux/dirent.h, struct linux_dirent64):
 *   0   8 inode     8   8 where to read on     16   2 length of the record     18   1 type     19  name, ended by NUL
 */
import { isErrno } from '../errors/index.ts'
import { libc } from './libc.ts'

const DIRENT_NAME = 19
const CHUNK_BYTES = 32 << 10
const SEEK_SET = 0
const DT_DIR = 4
const DOT = 46

/** A name in a directory. */
export interface ListedName {
  /** Ends in NUL; valid until the next call. */
  readonly name: Buffer
  /** The directory lists it as a directory; false also if the file system reports no types. */
  readonly isDirectory: boolean
}

/** Yields the names of a directory one after the other. Files created or removed meanwhile may be among them or not. */
export interface Listing {
  readonly next: (fd: number) => ListedName | undefined
  /** Frees all that can be read again: the descriptor is closed, and the next call gets another one for the same directory. */
  readonly suspend: () => void
}

/** The names as the directory has them. Memory: 32 KiB, and nothing while it is suspended. */
export class StoredListing implements Listing {
  readonly #resume: 'where it was' | 'at the start'
  #chunk: Buffer | undefined
  #at = 0
  #end = 0
  #place = 0n
  #isSuspended = false

  /** A walk that removes the listed names resumes at the start; all others resume where they were. */
  constructor(resume: 'where it was' | 'at the start') {
    this.#resume = resume
  }

  next(fd: number): ListedName | undefined {
    if (this.#isSuspended) this.#seek(fd)
    for (;;) {
      if (this.#at >= this.#end && !this.#fill(fd)) return undefined
      const chunk = this.#chunk ?? Buffer.alloc(0)
      const at = this.#at
      this.#place = chunk.readBigInt64LE(at + 8)
      this.#at += chunk.readUInt16LE(at + 16)
      const name = nameAt(chunk, at)
      if (!isDots(name)) return { name, isDirectory: chunk[at + 18] === DT_DIR }
    }
  }

  #seek(fd: number): void {
    this.#isSuspended = false
    if (this.#resume === 'where it was') libc().lseek(fd, this.#place, SEEK_SET)
  }

  #fill(fd: number): boolean {
    this.#chunk ??= Buffer.allocUnsafe(CHUNK_BYTES)
    this.#at = 0
    this.#end = readEntries(fd, this.#chunk)
    return this.#end > 0
  }

  suspend(): void {
    this.#chunk = undefined
    this.#at = 0
    this.#end = 0
    this.#isSuspended = true
  }
}

/** The names in the order of their bytes. Memory: all of them while it is in use, and the last one while it is suspended. */
export class SortedListing implements Listing {
  #names: PackedNames | undefined
  #at = 0
  #last: Buffer | undefined

  next(fd: number): ListedName | undefined {
    this.#names ??= this.#load(fd)
    const name = this.#names.at(this.#at)
    if (name === undefined) return undefined
    this.#at += 1
    return { name, isDirectory: false }
  }

  #load(fd: number): PackedNames {
    const names = new PackedNames(fd)
    this.#at = this.#last === undefined ? 0 : names.countUpTo(this.#last)
    return names
  }

  suspend(): void {
    const last = this.#names?.at(this.#at - 1)
    if (last !== undefined) this.#last = Buffer.from(last)
    this.#names = undefined
  }
}

/** Names one behind the other: a million of them are no million objects. */
class PackedNames {
  #bytes = Buffer.alloc(1 << 10)
  #used = 0
  readonly #starts: Uint32Array

  constructor(fd: number) {
    const listing = new StoredListing('where it was')
    let starts = new Uint32Array(16)
    let count = 0
    for (let next = listing.next(fd); next !== undefined; next = listing.next(fd)) {
      if (count === starts.length) starts = grown(starts)
      starts[count] = this.#add(next.name)
      count += 1
    }
    this.#starts = starts.subarray(0, count).toSorted((one, other) => this.#compare(one, other))
  }

  #add(name: Buffer): number {
    if (this.#used + name.length > this.#bytes.length)
      this.#bytes = Buffer.concat([this.#bytes], this.#bytes.length * 2)
    const start = this.#used
    name.copy(this.#bytes, start)
    this.#used += name.length
    return start
  }

  /** NUL is less than every byte of a name. */
  #compare(one: number, other: number): number {
    const bytes = this.#bytes
    return bytes.compare(bytes, other, bytes.indexOf(0, other), one, bytes.indexOf(0, one))
  }

  at(index: number): Buffer | undefined {
    const start = this.#starts[index]
    return start === undefined ? undefined : this.#bytes.subarray(start, this.#bytes.indexOf(0, start) + 1)
  }

  /** Returns the number of names up to and including this one. */
  countUpTo(name: Buffer): number {
    let low = 0
    for (let high = this.#starts.length; low < high; ) {
      const middle = (low + high) >>> 1
      if ((this.at(middle)?.compare(name) ?? 1) <= 0) low = middle + 1
      else high = middle
    }
    return low
  }
}

function grown(starts: Uint32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(starts.length * 2)
  larger.set(starts)
  return larger
}

/** A directory that was removed meanwhile has no names. */
function readEntries(fd: number, chunk: Buffer): number {
  try {
    return libc().getdents64(fd, chunk, chunk.length)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return 0
    throw error
  }
}

function nameAt(chunk: Buffer, record: number): Buffer {
  const start = record + DIRENT_NAME
  return chunk.subarray(start, chunk.indexOf(0, start) + 1)
}

function isDots(name: Buffer): boolean {
  return name[0] === DOT && (name.length === 2 || (name.length === 3 && name[1] === DOT))
}
