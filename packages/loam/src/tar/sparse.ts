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
import { readDecimal, readNumber } from './numbers.ts'
import type { PaxRecord } from './pax.ts'

/** Segments of one file; a map is memory that an archive asks for. */
export const MAX_SPARSE_SEGMENTS = 10_000

const SEGMENT_BYTES = 24
/** Number of digits in a map; longer ones are out of range. */
const MAX_DIGITS = 19

/** The pax records about a sparse file; `segments` is undefined for form 1.0, whose map is in the data. */
export interface PaxSparse {
  readonly name: Buffer | undefined
  readonly realSizeBytes: number
  readonly segments: SparseSegment[] | undefined
}

/** Reads `count` segments of the old GNU form; a segment of all zero bytes ends the list early. */
export function readOldSegments(block: Buffer, start: number, count: number): SparseSegment[] {
  const segments: SparseSegment[] = []
  for (let index = 0; index < count; index += 1) {
    const at = start + index * SEGMENT_BYTES
    if (block[at] === 0) break
    segments.push({
      offset: readNumber(block, at, 12, 'sparse offset'),
      length: readNumber(block, at + 12, 12, 'sparse length'),
    })
  }
  return segments
}

/** Parses the pax records about a sparse file, undefined for an ordinary one. @throws TAR_INVALID */
export function readPaxSparse(records: readonly PaxRecord[]): PaxSparse | undefined {
  const last = (key: string) => records.findLast((record) => record.key === key)?.value
  const realSize = last('GNU.sparse.realsize') ?? last('GNU.sparse.size')
  if (realSize === undefined) return undefined
  const isVersion1 = last('GNU.sparse.major')?.toString('latin1') === '1'
  const map = last('GNU.sparse.map')
  return {
    name: last('GNU.sparse.name'),
    realSizeBytes: readDecimal(realSize.toString('latin1'), 'sparse size'),
    segments: isVersion1 ? undefined : map === undefined ? readPairs(records) : readMap(map),
  }
}

function readPairs(records: readonly PaxRecord[]): SparseSegment[] {
  const numbers = records
    .filter(({ key }) => key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes')
    .map(({ value }) => readDecimal(value.toString('latin1'), 'sparse segment'))
  return toSegments(numbers)
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
  if (numbers.length % 2 !== 0) throw new LoamError('TAR_INVALID', 'read tar: malformed sparse map')
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
    if (this.#rest.length > MAX_DIGITS) throw new LoamError('TAR_INVALID', 'read tar: malformed sparse map')
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
export function checkSegments(
  segments: readonly SparseSegment[],
  realSizeBytes: number,
  storedBytes: number,
): SparseSegment[] {
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
