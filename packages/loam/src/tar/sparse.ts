/*
 * The four ways in which GNU tar writes files with holes:
 *   old GNU   type S; up to 4 segments in the header, 21 in each block that follows
 *   pax 0.0   GNU.sparse.offset and .numbytes, repeated in pairs
 *   pax 0.1   GNU.sparse.map = "offset,length,offset,length…"
 *   pax 1.0   GNU.sparse.major=1; the map is text in front of the data, padded to 512 bytes
 * Source: GNU tar manual, "Storing Sparse Files".
 */
import { LoamError } from '../errors/index.ts'
import type { SparseSegment } from './entry.ts'
import { readCount, readDecimal } from './numbers.ts'
import type { PaxRecord } from './pax.ts'

/** Segments of one file; a map is memory that an archive asks for. */
export const MAX_SPARSE_SEGMENTS = 10_000

const SEGMENT_BYTES = 24
const PREFIX = 'GNU.sparse.'
const PAIR: readonly string[] = [`${PREFIX}offset`, `${PREFIX}numbytes`]
/** Number of digits in a map; longer ones are out of range. */
const MAX_DIGITS = 19

/** What the headers say about a sparse file. */
export interface SparseHeader {
  readonly name: Buffer | undefined
  readonly realSizeBytes: number
  /** Undefined for pax form 1.0, whose map is in front of the data. */
  readonly segments: SparseSegment[] | undefined
}

/** A sparse file whose map is known. */
export interface SparseFile extends SparseHeader {
  readonly segments: SparseSegment[]
}

/** Reads `count` segments of the old GNU form; a segment of all zero bytes ends the list early. */
export function readOldSegments(block: Buffer, start: number, count: number): SparseSegment[] {
  const segments: SparseSegment[] = []
  for (let index = 0; index < count; index += 1) {
    const at = start + index * SEGMENT_BYTES
    if (block[at] === 0) break
    segments.push({
      offset: readCount(block, at, 12, 'sparse offset'),
      length: readCount(block, at + 12, 12, 'sparse length'),
    })
  }
  return segments
}

/**
 * Parses the pax records about a sparse file; undefined if there is none. One record makes the file sparse, and all that its form needs must be
 * there: readers that guess the form of an incomplete set find different names, sizes and data. @throws TAR_INVALID
 */
export function readPaxSparse(records: readonly PaxRecord[]): SparseHeader | undefined {
  const found = records.filter(({ key }) => key.startsWith(PREFIX))
  if (found.length === 0) return undefined
  const last = (key: string) => found.findLast((record) => record.key === `${PREFIX}${key}`)?.value
  const map = last('map')
  const pairs = readPairs(found)
  const count = last('numblocks')
  const name = last('name')
  const realSizeBytes = readRealSize(last('realsize'), last('size'))
  if (readForm(last('major'), last('minor')) === 1) {
    if (map !== undefined || pairs !== undefined || count !== undefined)
      throw malformed('its map is in the header and in the data')
    return { name, realSizeBytes, segments: undefined }
  }
  if (map !== undefined && pairs !== undefined) throw malformed('it has two maps')
  const segments = map === undefined ? pairs : readMap(map)
  if (segments === undefined) throw malformed('it has no map')
  if (count !== undefined && readDecimal(count.toString('latin1'), 'sparse count') !== segments.length)
    throw malformed('the number of its segments is wrong')
  return { name, realSizeBytes, segments }
}

/** Returns the major number of the form. Forms 0.0 and 0.1 need not state theirs. */
function readForm(major: Buffer | undefined, minor: Buffer | undefined): 0 | 1 {
  if (major === undefined && minor === undefined) return 0
  const form = `${major?.toString('latin1') ?? ''}.${minor?.toString('latin1') ?? ''}`
  if (form === '1.0') return 1
  if (form === '0.0' || form === '0.1') return 0
  throw malformed('its form is unknown')
}

function readRealSize(realSize: Buffer | undefined, size: Buffer | undefined): number {
  const [first, second] = [realSize, size]
    .filter((value) => value !== undefined)
    .map((value) => readDecimal(value.toString('latin1'), 'sparse size'))
  if (first === undefined) throw malformed('it has no size')
  if (second !== undefined && second !== first) throw malformed('it has two sizes')
  return first
}

/** Reads the map of form 0.0, in which an offset and a length take turns; undefined if there is none. */
function readPairs(records: readonly PaxRecord[]): SparseSegment[] | undefined {
  const found = records.filter(({ key }) => PAIR.includes(key))
  if (found.length === 0) return undefined
  if (found.some(({ key }, index) => key !== PAIR[index % 2]))
    throw malformed('its offsets and lengths do not take turns')
  return toSegments(found.map(({ value }) => readDecimal(value.toString('latin1'), 'sparse segment')))
}

function readMap(map: Buffer): SparseSegment[] {
  if (map.length === 0) return []
  return toSegments(
    map
      .toString('latin1')
      .split(',')
      .map((text) => readDecimal(text, 'sparse map')),
  )
}

function toSegments(numbers: readonly number[]): SparseSegment[] {
  if (numbers.length % 2 !== 0) throw malformed('half of a segment is missing')
  const segments: SparseSegment[] = []
  for (let index = 0; index < numbers.length; index += 2) {
    segments.push({ offset: numbers[index] ?? 0, length: numbers[index + 1] ?? 0 })
  }
  return segments
}

/** Reads the map before the data of pax form 1.0: the number of segments, and their numbers, each on a line. */
export class SparseMapReader {
  /** Blocks that were read. */
  bytes = 0
  readonly #numbers: number[] = []
  #count: number | undefined
  /** The beginning of a line whose end is in the next block. */
  #rest = ''

  /** Takes the next block. Returns the segments once all are there. @throws TAR_INVALID, LAYER_LIMIT */
  read(block: Buffer): SparseSegment[] | undefined {
    this.bytes += block.length
    const lines = `${this.#rest}${block.toString('latin1')}`.split('\n')
    this.#rest = lines.pop() ?? ''
    for (const line of lines) {
      if (this.#count === undefined) this.#count = checkCount(readDecimal(line, 'sparse map'))
      // The rest after the last number is padding.
      else if (this.#numbers.length < 2 * this.#count) this.#numbers.push(readDecimal(line, 'sparse map'))
    }
    if (this.#numbers.length === 2 * (this.#count ?? Infinity)) return toSegments(this.#numbers)
    if (this.#rest.length > MAX_DIGITS) throw malformed('a number of its map is too long')
    return undefined
  }
}

function checkCount(count: number): number {
  if (count > MAX_SPARSE_SEGMENTS) {
    throw new LoamError('LAYER_LIMIT', `read tar: a file of more than ${MAX_SPARSE_SEGMENTS} sparse segments`)
  }
  return count
}

/**
 * Checks a map against the file: ascending, not overlapping, within the real size, and as long as the stored data.
 * @throws TAR_INVALID, LAYER_LIMIT
 */
export function checkSegments({ segments, realSizeBytes }: SparseFile, storedBytes: number): SparseSegment[] {
  checkCount(segments.length)
  let end = 0
  let total = 0
  for (const { offset, length } of segments) {
    if (offset < end || offset + length > realSizeBytes) {
      throw new LoamError('TAR_INVALID', 'read tar: sparse segments overlap or leave the file')
    }
    end = offset + length
    total += length
  }
  if (total !== storedBytes) {
    throw new LoamError(
      'TAR_INVALID',
      `read tar: a sparse map of ${total} bytes for ${storedBytes} bytes of data`,
    )
  }
  return segments.filter(({ length }) => length > 0)
}

function malformed(why: string): LoamError {
  return new LoamError('TAR_INVALID', `read tar: malformed sparse file: ${why}`)
}
