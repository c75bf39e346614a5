/*
 * zstd:chunked (containers/storage, "zstd:chunked file format"): a zstd blob whose files are frames of their own, with two skippable frames behind them:
 *   TOC        zstd, JSON: where the frames of each file are, and the sha256 of their data; its digest is an annotation of the layer
 *   tar-split  zstd, lines of JSON: everything else of the tar in its order, and the sizes of the files; its digest is in the TOC
 * Annotations say where both are: OFFSET:PACKED:SIZE, the TOC's with a type behind it.
 */
import { createHash } from 'node:crypto'
import * as v from 'valibot'
import { type DiffId, type Digest, digestOf, isDigest, parseStrictJson } from '../image/index.ts'
import { TarReader } from '../tar/index.ts'
import { invalidIndex, unpack } from './format.ts'
import { SkeletonWriter } from './skeleton.ts'
import { formatIndex, type MadeSpan } from './write-index.ts'

const PREFIX = 'io.github.containers.zstd-chunked.'
const TOC_POSITION = `${PREFIX}manifest-position`
const TOC_DIGEST = `${PREFIX}manifest-checksum`
const TAR_SPLIT_POSITION = `${PREFIX}tarsplit-position`
const TOC_TYPE = '1'
/** Bound of each table, unpacked: as JSON it takes several times as much memory. An index of more files would have too many spans. */
const MAX_BYTES = 64 << 20
/** Bytes between both tables: the head of a skippable frame. What is fetched for them is held in memory, so they may not be far apart. */
const MAX_GAP_BYTES = 64 << 10
const SEGMENT = 2
const FILE = 1
const NEWLINE = 0x0a

/** A packed part of a blob. */
interface PackedPart {
  readonly start: number
  readonly packedBytes: number
  readonly bytes: number
}

/** What the annotations of a layer say about its blob. */
export interface ChunkedLayer {
  readonly toc: PackedPart
  readonly tocDigest: Digest
  readonly tarSplit: PackedPart
}

const Whole = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const TocEntry = v.object({
  type: v.string(),
  size: v.optional(Whole, 0),
  digest: v.optional(v.string(), ''),
  offset: v.optional(Whole, 0),
  endOffset: v.optional(Whole, 0),
  chunkSize: v.optional(Whole, 0),
  chunkOffset: v.optional(Whole, 0),
  chunkDigest: v.optional(v.string(), ''),
})
const Toc = v.object({ version: v.literal(1), entries: v.array(TocEntry), tarSplitDigest: v.string() })
const TarSplitEntry = v.object({
  type: v.number(),
  size: v.optional(Whole, 0),
  payload: v.nullish(v.string(), ''),
})

/**
 * Reads the annotations of a layer whose blob has `blobBytes`. Returns undefined if they are not those of zstd:chunked with a tar-split beside the TOC, or are
 * invalid.
 */
export function parseChunkedLayer(
  annotations: Readonly<Record<string, string>>,
  blobBytes: number,
): ChunkedLayer | undefined {
  const [tocPosition = '', tocType] = /^(.*):(\d+)$/.exec(annotations[TOC_POSITION] ?? '')?.slice(1) ?? []
  const toc = parsePart(tocPosition)
  const tarSplit = parsePart(annotations[TAR_SPLIT_POSITION] ?? '')
  const tocDigest = annotations[TOC_DIGEST]
  if (tocType !== TOC_TYPE || toc === undefined || tarSplit === undefined || !isDigest(tocDigest))
    return undefined
  const layer = { toc, tocDigest, tarSplit }
  const { offset, lengthBytes } = chunkedRange(layer)
  const gapBytes = lengthBytes - toc.packedBytes - tarSplit.packedBytes
  return gapBytes >= 0 && gapBytes <= MAX_GAP_BYTES && offset + lengthBytes <= blobBytes ? layer : undefined
}

function parsePart(text: string): PackedPart | undefined {
  const found = /^(\d{1,15}):(\d{1,9}):(\d{1,9})$/.exec(text)?.slice(1).map(Number)
  const [start = 0, packedBytes = 0, bytes = 0] = found ?? []
  const isBounded = packedBytes > 0 && packedBytes <= MAX_BYTES && bytes > 0 && bytes <= MAX_BYTES
  return found !== undefined && isBounded ? { start, packedBytes, bytes } : undefined
}

/** The part of a blob that has both. */
export function chunkedRange({ toc, tarSplit }: ChunkedLayer): {
  readonly offset: number
  readonly lengthBytes: number
} {
  const offset = Math.min(toc.start, tarSplit.start)
  const end = Math.max(toc.start + toc.packedBytes, tarSplit.start + tarSplit.packedBytes)
  return { offset, lengthBytes: end - offset }
}

/** A file as the TOC has it. */
interface ChunkedFile {
  readonly sizeBytes: number
  readonly end: number
  readonly chunks: readonly { readonly start: number; readonly sizeBytes: number; readonly sum: Buffer }[]
}

/**
 * Makes the lazy index of a zstd:chunked blob from its own tables, which the manifest of the image vouches for. `range` has the bytes of `chunkedRange`. The caller reads the
 * result by `readLazyIndex`, which checks it. @throws LAZY_INDEX_INVALID, DOCUMENT_INVALID, TAR_INVALID, LAYER_LIMIT
 */
export function indexOfChunked(
  of: { readonly blob: { readonly digest: Digest; readonly sizeBytes: number }; readonly diffId: DiffId },
  layer: ChunkedLayer,
  range: Buffer,
): Buffer {
  const { offset } = chunkedRange(layer)
  const partOf = ({ start, packedBytes }: PackedPart) =>
    range.subarray(start - offset, start - offset + packedBytes)
  const toc = partOf(layer.toc)
  if (digestOf(toc) !== layer.tocDigest) throw invalidIndex('the TOC has another digest')
  const { entries, tarSplitDigest } = read(Toc, unpack(toc, layer.toc.bytes, 'the TOC'), 'a TOC')
  const tarSplit = partOf(layer.tarSplit)
  if (digestOf(tarSplit) !== tarSplitDigest) throw invalidIndex('the tar-split has another digest')
  const maker = new ChunkedIndex(filesOf(entries))
  for (const line of linesOf(unpack(tarSplit, layer.tarSplit.bytes, 'the tar-split'))) {
    const { type, size, payload } = read(TarSplitEntry, line, 'a line of a tar-split')
    if (type === SEGMENT) maker.addSegment(Buffer.from(payload ?? '', 'base64'))
    else if (type === FILE && size > 0) maker.addFile(size)
    else if (type !== FILE) throw invalidIndex(`the tar-split has an entry of type ${type}`)
  }
  return maker.end(of)
}

function read<const Schema extends v.GenericSchema>(
  schema: Schema,
  bytes: Buffer,
  what: string,
): v.InferOutput<Schema> {
  const found = v.safeParse(schema, parseStrictJson(bytes, what), { abortEarly: true })
  if (found.success) return found.output
  throw invalidIndex(`${what} is invalid`)
}

function* linesOf(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length; ) {
    const next = bytes.indexOf(NEWLINE, at)
    const end = next < 0 ? bytes.length : next
    if (end > at) yield bytes.subarray(at, end)
    at = end + 1
  }
}

/** The files that have data, in the order of their frames. */
function filesOf(entries: v.InferOutput<typeof Toc>['entries']): ChunkedFile[] {
  const files: {
    sizeBytes: number
    end: number
    chunks: { start: number; sizeBytes: number; sum: Buffer }[]
  }[] = []
  for (const { type, size, digest, offset, endOffset, chunkSize, chunkDigest } of entries) {
    if (type === 'reg' && size > 0) {
      const isWhole = chunkDigest === ''
      const first = {
        start: offset,
        sizeBytes: isWhole ? size : chunkSize,
        sum: sumOf(isWhole ? digest : chunkDigest),
      }
      files.push({ sizeBytes: size, end: endOffset, chunks: [first] })
    } else if (type === 'chunk') {
      files.at(-1)?.chunks.push({ start: offset, sizeBytes: chunkSize, sum: sumOf(chunkDigest) })
    }
  }
  return files.toSorted((a, b) => (a.chunks[0]?.start ?? 0) - (b.chunks[0]?.start ?? 0))
}

function sumOf(digest: string): Buffer {
  if (!/^sha256:[0-9a-f]{64}$/.test(digest)) throw invalidIndex('the TOC has a chunk without a sha256')
  return Buffer.from(digest.slice('sha256:'.length), 'hex')
}

/** Puts the tar together: what is between files, of which the sums are computed, and the data of files, of which the TOC has them. */
class ChunkedIndex {
  readonly #files: readonly ChunkedFile[]
  readonly #reader = new TarReader(() => undefined)
  readonly #skeleton = new SkeletonWriter(this.#reader)
  readonly #spans: MadeSpan[] = []
  #usedFiles = 0
  #tarBytes = 0
  /** Where the bytes between files begin, in the tar and in the blob. */
  #gapStart = 0
  #gapBlobStart = 0
  #gapHash = createHash('sha256')

  constructor(files: readonly ChunkedFile[]) {
    this.#files = files
  }

  addSegment(bytes: Buffer): void {
    this.#skeleton.write(bytes)
    this.#gapHash.update(bytes)
    this.#tarBytes += bytes.length
  }

  addFile(sizeBytes: number): void {
    const file = this.#files[this.#usedFiles]
    this.#usedFiles += 1
    const inChunks = file?.chunks.reduce((sum, chunk) => sum + chunk.sizeBytes, 0)
    if (file?.sizeBytes !== sizeBytes || inChunks !== sizeBytes)
      throw invalidIndex(`TOC and tar-split differ in file ${this.#usedFiles}`)
    this.#endGap()
    for (const chunk of file.chunks) {
      this.#spans.push({
        point: { blobStart: chunk.start, bit: 0, tarStart: this.#tarBytes },
        sum: chunk.sum,
      })
      this.#skeleton.skip(chunk.sizeBytes)
      this.#tarBytes += chunk.sizeBytes
    }
    this.#gapStart = this.#tarBytes
    this.#gapBlobStart = file.end
  }

  #endGap(): void {
    const sum = this.#gapHash.digest()
    this.#gapHash = createHash('sha256')
    if (this.#tarBytes === this.#gapStart) return
    this.#spans.push({ point: { blobStart: this.#gapBlobStart, bit: 0, tarStart: this.#gapStart }, sum })
  }

  end(of: Parameters<typeof indexOfChunked>[0]): Buffer {
    if (this.#usedFiles !== this.#files.length)
      throw invalidIndex('the TOC has more files than the tar-split')
    this.#endGap()
    this.#reader.end()
    const found = { packing: 'zstd', access: 'random', spans: this.#spans, windows: [] } as const
    return Buffer.concat(formatIndex({ ...of, tarBytes: this.#tarBytes }, found, this.#skeleton.end()))
  }
}
