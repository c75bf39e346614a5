/*
 * A tar archive is a sequence of 512-byte blocks: a header, then the data of its file padded to whole blocks.
 * Two zero blocks end it. Headers of the types x and g (pax), L and K (GNU) only describe the header that follows.
 *
 *   0 name 100 | 100 mode 8 | 108 uid 8 | 116 gid 8 | 124 size 12 | 136 mtime 12 | 148 checksum 8 | 156 type 1
 *   157 link name 100 | 257 magic 6, version 2 | 329 major 8 | 337 minor 8 | 345 prefix 155
 *   old GNU sparse: 386 four segments of 24 | 482 more follow | 483 real size 12
 *
 * Sources: POSIX.1-2017 pax, GNU tar manual "Basic Tar Format".
 *
 * The file is long because it is one state machine over chunks of any size: each state and what leads to it are read side by side. Numbers, pax
 * records and maps of sparse files have files of their own.
 */
import { LoamError } from '../errors/index.ts'
import type { SparseSegment, TarEntry, TarEntryType, TarXattr } from './entry.ts'
import { readCount, readDecimal, readNumber, readPaxTime } from './numbers.ts'
import { type PaxRecord, parsePaxRecords } from './pax.ts'
import {
  checkSegments,
  MAX_SPARSE_SEGMENTS,
  readOldSegments,
  readPaxSparse,
  type SparseFile,
  type SparseHeader,
  SparseMapReader,
} from './sparse.ts'

const BLOCK = 512
const CHECKSUM_START = 148
const CHECKSUM_END = 156
const BLANK = 32
const MAX_META_BYTES = 1 << 20
const MAX_GLOBAL_RECORDS = 100
const XATTR_PREFIX = 'SCHILY.xattr.'

const TYPES: Readonly<Record<string, TarEntryType>> = {
  '\0': 'file',
  '0': 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'character',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
  '7': 'file',
  S: 'file',
}
const META_TYPES = 'xgLK'
/** Before POSIX a directory was a file whose name ends in one; its name may as well be a pax record's. */
const SLASH = 0x2f
const NO_RECORDS: readonly PaxRecord[] = []
const NO_XATTRS: readonly TarXattr[] = []

/** A header that is not passed on yet, because blocks that belong to it follow. */
interface Pending {
  readonly header: Buffer
  readonly records: readonly PaxRecord[]
  readonly storedBytes: number
  readonly segments: SparseSegment[]
}

/** The meaning of the next bytes of the archive. */
type State =
  | { readonly at: 'header' }
  | { readonly at: 'meta'; readonly type: string; readonly body: Buffer; filled: number }
  | { readonly at: 'old-sparse'; readonly pending: Pending }
  | {
      readonly at: 'sparse-map'
      readonly pending: Pending
      readonly sparse: SparseHeader
      readonly map: SparseMapReader
    }
  | { readonly at: 'end' }

/**
 * Reads a tar stream by push: `write` every chunk, then `end`. Each entry is passed to `onEntry` when its header
 * is complete; data are passed over and described by offset and length. Keeps at most one header and 1 MiB of
 * pax records in memory.
 */
export class TarReader {
  readonly #onEntry: (entry: TarEntry) => void
  readonly #block = Buffer.alloc(BLOCK)
  #blockFilled = 0
  #state: State = { at: 'header' }
  #skip = 0
  #offset = 0
  #zeroBlocks = 0
  #global = new Map<string, Buffer>()
  #records: readonly PaxRecord[] = NO_RECORDS
  #longName: Buffer | undefined
  #longLink: Buffer | undefined

  constructor(onEntry: (entry: TarEntry) => void) {
    this.#onEntry = onEntry
  }

  /** Bytes before the next header that need not be written: pass them over with `skip`. */
  get skippableBytes(): number {
    return this.#state.at === 'end' ? Number.POSITIVE_INFINITY : this.#skip
  }

  /** Moves on by bytes of file data without reading them. */
  skip(bytes: number): void {
    const count = Math.min(bytes, this.#skip)
    this.#skip -= count
    this.#offset += count
  }

  /** Reads the next bytes of the archive. @throws TAR_INVALID, LAYER_LIMIT */
  write(chunk: Buffer): void {
    let at = 0
    while (at < chunk.length && this.#state.at !== 'end') {
      if (this.#skip > 0) {
        const count = Math.min(this.#skip, chunk.length - at)
        this.skip(count)
        at += count
      } else if (this.#state.at === 'meta') {
        at += this.#fillMeta(this.#state, chunk, at)
      } else {
        at += this.#fillBlock(chunk, at)
      }
    }
  }

  /** Ends the archive. One that stops between entries without zero blocks is accepted, as in Go. @throws TAR_INVALID */
  end(): void {
    if (this.#state.at === 'end') return
    const isBetween =
      this.#state.at === 'header' &&
      this.#skip === 0 &&
      this.#blockFilled === 0 &&
      this.#records === NO_RECORDS &&
      this.#longName === undefined &&
      this.#longLink === undefined
    if (!isBetween) throw this.#invalid('it is truncated within an entry')
  }

  #fillMeta(state: Extract<State, { at: 'meta' }>, chunk: Buffer, at: number): number {
    const count = Math.min(state.body.length - state.filled, chunk.length - at)
    chunk.copy(state.body, state.filled, at, at + count)
    state.filled += count
    this.#offset += count
    if (state.filled === state.body.length) this.#endMeta(state.type, state.body)
    return count
  }

  #endMeta(type: string, body: Buffer): void {
    this.#state = { at: 'header' }
    this.#skip = padding(body.length)
    if (type === 'L') this.#longName = untilNul(body)
    else if (type === 'K') this.#longLink = untilNul(body)
    else if (type === 'x') this.#setRecords(body)
    else for (const { key, value } of parsePaxRecords(body)) this.#setGlobal(key, value)
  }

  /** One header describes one entry; a sequence of them would take unlimited memory. */
  #setRecords(body: Buffer): void {
    if (this.#records !== NO_RECORDS) throw this.#invalid('two extended headers for one entry')
    this.#records = parsePaxRecords(body)
  }

  #setGlobal(key: string, value: Buffer): void {
    if (value.length === 0) this.#global.delete(key)
    else this.#global.set(key, value)
    // They apply to every following entry.
    let bytes = 0
    for (const [name, kept] of this.#global) bytes += name.length + kept.length
    if (this.#global.size > MAX_GLOBAL_RECORDS || bytes > MAX_META_BYTES) {
      throw new LoamError('LAYER_LIMIT', `read tar: more than ${MAX_GLOBAL_RECORDS} global pax records`)
    }
  }

  #fillBlock(chunk: Buffer, at: number): number {
    if (this.#blockFilled === 0 && chunk.length - at >= BLOCK) {
      this.#offset += BLOCK
      this.#readBlock(chunk.subarray(at, at + BLOCK))
      return BLOCK
    }
    const count = Math.min(BLOCK - this.#blockFilled, chunk.length - at)
    chunk.copy(this.#block, this.#blockFilled, at, at + count)
    this.#blockFilled += count
    this.#offset += count
    if (this.#blockFilled === BLOCK) {
      this.#blockFilled = 0
      this.#readBlock(this.#block)
    }
    return count
  }

  #readBlock(block: Buffer): void {
    const state = this.#state
    if (state.at === 'header') this.#readHeader(block)
    else if (state.at === 'old-sparse') this.#readOldSparse(state.pending, block)
    else if (state.at === 'sparse-map') this.#readSparseMap(state, block)
  }

  #readHeader(block: Buffer): void {
    if (this.#isZeroBlock(block)) return
    const type = String.fromCharCode(block[156] ?? 0)
    if (META_TYPES.includes(type)) {
      this.#startMeta(type, readCount(block, 124, 12, 'size'))
      return
    }
    const records = this.#takeRecords()
    // The size in pax applies only to the entry; readers would not use a size before L, K or x headers.
    const paxSize = records.findLast(({ key, value }) => key === 'size' && value.length > 0)?.value
    const sizeBytes =
      paxSize === undefined
        ? readCount(block, 124, 12, 'size')
        : readDecimal(paxSize.toString('latin1'), 'size')
    const hasData = TYPES[type] === 'file'
    this.#startEntry({ header: block, records, storedBytes: hasData ? sizeBytes : 0, segments: [] }, type)
  }

  #isZeroBlock(block: Buffer): boolean {
    const sum = sumOfHeader(block)
    if (sum === 8 * 32 && block.every((byte) => byte === 0)) {
      this.#zeroBlocks += 1
      if (this.#zeroBlocks === 2) {
        this.#state = { at: 'header' }
        this.end()
        this.#state = { at: 'end' }
      }
      return true
    }
    if (this.#zeroBlocks > 0) throw this.#invalid('a header follows a lone zero block')
    const stated = readNumber(block, 148, 8, 'checksum')
    if (stated !== sum && stated !== signedSumOfHeader(block, sum))
      throw this.#invalid('the header checksum is wrong')
    return false
  }

  #startMeta(type: string, sizeBytes: number): void {
    if (sizeBytes > MAX_META_BYTES) {
      throw new LoamError('LAYER_LIMIT', `read tar: an extended header of ${sizeBytes} bytes`)
    }
    this.#state = { at: 'meta', type, body: Buffer.alloc(sizeBytes), filled: 0 }
    if (sizeBytes === 0) this.#endMeta(type, Buffer.alloc(0))
  }

  /** Returns the records of the next entry: its own, and the global ones for whose key it has none. An empty one of its own means the value of the header. */
  #takeRecords(): readonly PaxRecord[] {
    const own = this.#records
    this.#records = NO_RECORDS
    if (this.#global.size === 0) return own
    const ownKeys = new Set(own.map(({ key }) => key))
    const global = [...this.#global].map(([key, value]) => ({ key, value }))
    return [...global.filter(({ key }) => !ownKeys.has(key)), ...own]
  }

  #startEntry(pending: Pending, type: string): void {
    const sparse = pending.records === NO_RECORDS ? undefined : readPaxSparse(pending.records)
    // No archiver writes such headers, and readers differ in what they do with them.
    if (sparse !== undefined && (type === 'S' || TYPES[type] !== 'file'))
      throw this.#invalid(`pax records of a sparse file at an entry of type ${JSON.stringify(type)}`)
    if (type === 'S') this.#startOldSparse(pending)
    else if (sparse?.segments !== undefined) this.#finish(pending, { ...sparse, segments: sparse.segments })
    else if (sparse !== undefined) this.#startSparseMap(pending, sparse)
    else this.#finish(pending, undefined)
  }

  #startOldSparse(pending: Pending): void {
    pending.segments.push(...readOldSegments(pending.header, 386, 4))
    if (pending.header[482] === 0) this.#finish(pending, this.#oldSparse(pending))
    else this.#state = { at: 'old-sparse', pending: { ...pending, header: Buffer.from(pending.header) } }
  }

  #startSparseMap(pending: Pending, sparse: SparseHeader): void {
    if (pending.storedBytes === 0) throw this.#invalid('a sparse file without its map')
    const kept = { ...pending, header: Buffer.from(pending.header) }
    this.#state = { at: 'sparse-map', pending: kept, sparse, map: new SparseMapReader() }
  }

  #readOldSparse(pending: Pending, block: Buffer): void {
    pending.segments.push(...readOldSegments(block, 0, 21))
    if (pending.segments.length > MAX_SPARSE_SEGMENTS) {
      throw new LoamError(
        'LAYER_LIMIT',
        `read tar: a file of more than ${MAX_SPARSE_SEGMENTS} sparse segments`,
      )
    }
    if (block[504] !== 0) return
    this.#finish(pending, this.#oldSparse(pending))
  }

  #oldSparse({ header, segments }: Pending): SparseFile {
    const realSizeBytes = readCount(header, 483, 12, 'sparse size')
    return { name: undefined, realSizeBytes, segments }
  }

  #readSparseMap({ pending, sparse, map }: Extract<State, { at: 'sparse-map' }>, block: Buffer): void {
    const segments = map.read(block)
    const storedBytes = pending.storedBytes - map.bytes
    if (storedBytes < 0) throw this.#invalid('a sparse map is longer than its file')
    if (segments !== undefined) this.#finish({ ...pending, storedBytes }, { ...sparse, segments })
    else if (storedBytes === 0) throw this.#invalid('a sparse map is longer than its file')
  }

  #finish(pending: Pending, sparse: SparseFile | undefined): void {
    const { storedBytes } = pending
    this.#state = { at: 'header' }
    this.#skip = storedBytes + padding(storedBytes)
    this.#onEntry(this.#makeEntry(pending, sparse))
    this.#longName = undefined
    this.#longLink = undefined
  }

  #makeEntry(pending: Pending, sparse: SparseFile | undefined): TarEntry {
    const { header, records, storedBytes } = pending
    const typeFlag = String.fromCharCode(header[156] ?? 0)
    const type = TYPES[typeFlag]
    if (type === undefined) throw this.#invalid(`an entry of unknown type ${JSON.stringify(typeFlag)}`)
    const isLink = type === 'symlink' || type === 'hardlink'
    const isDevice = type === 'character' || type === 'block'
    const entry = {
      type,
      name: this.#longName ?? headerName(header),
      linkName: isLink ? (this.#longLink ?? copyField(header, 157, 100)) : Buffer.alloc(0),
      mode: readCount(header, 100, 8, 'mode') & 0o7777,
      uid: readNumber(header, 108, 8, 'uid'),
      gid: readNumber(header, 116, 8, 'gid'),
      mtimeSeconds: readNumber(header, 136, 12, 'time'),
      mtimeNanoseconds: 0,
      deviceMajor: isDevice ? readCount(header, 329, 8, 'device') : 0,
      deviceMinor: isDevice ? readCount(header, 337, 8, 'device') : 0,
      xattrs: records === NO_RECORDS ? NO_XATTRS : collectXattrs(records),
      sizeBytes: sparse?.realSizeBytes ?? storedBytes,
      dataOffset: this.#offset,
      sparse: sparse === undefined ? undefined : checkSegments(sparse, storedBytes),
    }
    for (const record of records) applyRecord(entry, record)
    if (sparse?.name !== undefined) entry.name = Buffer.from(sparse.name)
    const isOldDirectory = (typeFlag === '0' || typeFlag === '\0') && entry.name.at(-1) === SLASH
    return this.#checkEntry(isOldDirectory ? this.#toDirectory(entry, storedBytes) : entry)
  }

  #toDirectory(entry: TarEntry, storedBytes: number): TarEntry {
    // Readers disagree on whether these bytes exist.
    if (storedBytes > 0 || entry.sparse !== undefined)
      throw this.#invalid('a directory of the old format has data')
    return { ...entry, type: 'directory' }
  }

  #checkEntry(entry: TarEntry): TarEntry {
    if (entry.name.includes(0) || entry.linkName.includes(0)) throw this.#invalid('a name holds a NUL byte')
    return entry
  }

  #invalid(why: string): LoamError {
    return new LoamError('TAR_INVALID', `read tar at byte ${this.#offset}: ${why}`)
  }
}

type Writable<T> = { -readonly [K in keyof T]: T[K] }

/** The last record of a name counts. Unlike other records, an xattr with an empty value exists: ACL tools create such ones. */
function collectXattrs(records: readonly PaxRecord[]): TarXattr[] {
  const found = new Map<string, Buffer>()
  for (const { key, value } of records) {
    if (key.startsWith(XATTR_PREFIX)) found.set(key.slice(XATTR_PREFIX.length), value)
  }
  return [...found].map(([name, value]) => ({ name: Buffer.from(name, 'latin1'), value: Buffer.from(value) }))
}

function applyRecord(entry: Writable<TarEntry>, { key, value }: PaxRecord): void {
  // By POSIX an empty value cancels the record, and the header counts.
  if (value.length === 0) return
  switch (key) {
    case 'path':
      entry.name = Buffer.from(value)
      break
    case 'linkpath':
      if (entry.type === 'symlink' || entry.type === 'hardlink') entry.linkName = Buffer.from(value)
      break
    case 'uid':
      entry.uid = readDecimal(value.toString('latin1'), 'uid')
      break
    case 'gid':
      entry.gid = readDecimal(value.toString('latin1'), 'gid')
      break
    case 'mtime': {
      const time = readPaxTime(value.toString('latin1'))
      entry.mtimeSeconds = time.seconds
      entry.mtimeNanoseconds = time.nanoseconds
      break
    }
    default:
  }
}

function headerName(header: Buffer): Buffer {
  const name = copyField(header, 0, 100)
  // GNU's magic is "ustar  \0", and it has times in the place of the prefix.
  const isPosix = header.toString('latin1', 257, 263) === 'ustar\0'
  if (!isPosix || header[345] === 0) return name
  const isStar = header.toString('latin1', 508, 512) === 'tar\0'
  return Buffer.concat([copyField(header, 345, isStar ? 131 : 155), Buffer.from('/'), name])
}

function copyField(block: Buffer, start: number, length: number): Buffer {
  return Buffer.from(untilNul(block.subarray(start, start + length)))
}

function untilNul(bytes: Buffer): Buffer {
  const end = bytes.indexOf(0)
  return end < 0 ? bytes : bytes.subarray(0, end)
}

/** Returns the sum of a header's bytes, where its checksum counts as eight blanks. */
function sumOfHeader(block: Buffer): number {
  let sum = 8 * BLANK
  for (let index = 0; index < CHECKSUM_START; index += 1) sum += block[index] ?? 0
  for (let index = CHECKSUM_END; index < BLOCK; index += 1) sum += block[index] ?? 0
  return sum
}

/** Returns the same sum of signed bytes, which some old archivers wrote. */
function signedSumOfHeader(block: Buffer, sum: number): number {
  let negative = 0
  for (let index = 0; index < BLOCK; index += 1) {
    const isCounted = index < CHECKSUM_START || index >= CHECKSUM_END
    if (isCounted && (block[index] ?? 0) > 127) negative += 1
  }
  return sum - 256 * negative
}

function padding(bytes: number): number {
  return (BLOCK - (bytes % BLOCK)) % BLOCK
}
