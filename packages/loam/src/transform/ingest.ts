import { createHash, type Hash } from 'node:crypto'
import { isLoamError, LoamError, toLoamError } from '../errors/index.ts'
import {
  type DiffId,
  type Digest,
  finishDigest,
  parseDiffId,
  splitDigest,
  startDigest,
} from '../image/index.ts'
import { LazyIndexMaker } from '../lazy-index/index.ts'
import { isStoredOnBlocks } from '../erofs/index.ts'
import { type TarEntry, TarReader } from '../tar/index.ts'
import {
  type FileTree,
  type LayerLimits,
  LayerTreeBuilder,
  type LeftOutXattrs,
  overLimit,
} from '../tree/index.ts'
import { canInflateSpans, ChunkPool, CHUNK_BYTES, decompress } from '../compression/index.ts'
import { TarFile } from './tar-file.ts'

/** A layer blob as an image names it. */
export interface LayerBlob {
  readonly digest: Digest
  readonly sizeBytes: number
}

export interface IngestRequest {
  readonly blob: LayerBlob
  /** The expected digest of the tar. Undefined if only the blob is known. */
  readonly diffId: DiffId | undefined
  /** The file to make; undefined to read the blob only. */
  readonly tarPath: string | undefined
  /** Make the lazy index of the blob on the way. */
  readonly lazyIndex: boolean
  readonly limits: LayerLimits
  /** A caller is going to wait until the tar is on the disk. */
  readonly syncEarly: boolean
}

export interface IngestedLayer {
  /** Digest of the tar. */
  readonly diffId: DiffId
  readonly tarBytes: number
  /** Its lazy index, in pieces; undefined if none was asked for, or if this blob cannot have one. */
  readonly lazyIndex: readonly Buffer[] | undefined
}

/** Derives artifacts from a layer's tree, beside its tar. `leftOut` has the xattrs that were left out of the tree. */
export type DeriveArtifacts = (tree: FileTree, leftOut: LeftOutXattrs | undefined, diffId: DiffId) => void

const RATIO_FREE_BYTES = 16 << 20
/** A smaller blob is inflated sooner than another thread has begun. */
const MIN_AHEAD_BYTES = 1 << 20
const SMALL_CHUNK_BYTES = 64 << 10

/**
 * Turns a layer blob into its uncompressed tar in one pass: hash, inflate, hash, write, and the tar read on the way.
 * When it returns, the file can be read, and both digests, the size and the format are verified; it is not yet on the disk. `derive`
 * is called with the tree once all is verified. On failure files may be there, unfinished: the caller removes them.
 * The chunks of the source are its own from then on. Memory: some 3 MiB, the tree, and what was asked for. @throws DIGEST_MISMATCH, SIZE_MISMATCH, COMPRESSION_INVALID, TAR_*, LAYER_LIMIT, and the errors of the source
 */
export async function ingestLayer(
  source: AsyncIterable<Buffer>,
  request: IngestRequest,
  derive: DeriveArtifacts,
): Promise<IngestedLayer> {
  const check = new BlobCheck(source, request.blob)
  try {
    return await writeTar(check, request, derive)
  } catch (error) {
    await check.blame(error)
    throw toLoamError(error, `write layer ${request.diffId ?? request.blob.digest}`)
  }
}

async function writeTar(
  check: BlobCheck,
  request: IngestRequest,
  derive: DeriveArtifacts,
): Promise<IngestedLayer> {
  const algorithm = request.diffId === undefined ? 'sha256' : splitDigest(request.diffId).algorithm
  const layer = new LayerReading(request)
  const hash = createHash(algorithm)
  let tarBytes = 0
  const isLarge = request.blob.sizeBytes >= MIN_AHEAD_BYTES
  const pool = new ChunkPool(isLarge ? CHUNK_BYTES : SMALL_CHUNK_BYTES)
  using file = request.tarPath === undefined ? undefined : new TarFile(request.tarPath, request)
  const options = { pool, isAhead: isLarge, checkpoints: layer.index }
  for await (const chunk of decompress(check.stream(), options)) {
    tarBytes += chunk.length
    checkSize(tarBytes, check.receivedBytes, request)
    hash.update(chunk)
    layer.write(chunk)
    file?.write(chunk)
    pool.give(chunk)
  }
  layer.end()
  const diffId = parseDiffId(finishDigest(algorithm, hash))
  if (request.diffId !== undefined && diffId !== request.diffId) {
    throw new LoamError(
      'DIGEST_MISMATCH',
      `verify layer ${request.blob.digest}: its tar is ${diffId}, the image states ${request.diffId}`,
    )
  }
  await check.finish()
  derive(layer.builder.tree, layer.builder.leftOutXattrs, diffId)
  const of = { blob: request.blob, diffId, tarBytes }
  return { diffId, tarBytes, lazyIndex: layer.hasIndex ? layer.index?.end(of) : undefined }
}

/** Reads the tree of a tar on the way, and makes the index of its blob if that is asked for and possible. */
class LayerReading {
  readonly builder: LayerTreeBuilder
  readonly index: LazyIndexMaker | undefined
  readonly #reader: TarReader
  hasIndex: boolean

  constructor({ limits, lazyIndex }: IngestRequest) {
    this.builder = new LayerTreeBuilder(limits)
    this.#reader = new TarReader((entry) => {
      this.#add(entry)
    })
    this.hasIndex = lazyIndex && canInflateSpans()
    this.index = this.hasIndex ? new LazyIndexMaker(this.#reader) : undefined
  }

  write(chunk: Buffer): void {
    if (this.index === undefined) this.#reader.write(chunk)
    else this.index.write(chunk)
  }

  #add(entry: TarEntry): void {
    this.builder.add(entry)
    // Data that has to be copied into a metadata image would have to be here before the layer can be mounted.
    const { sparse, sizeBytes, dataOffset } = entry
    if (sparse !== undefined && !isStoredOnBlocks(sparse, sizeBytes, dataOffset)) this.hasIndex = false
  }

  end(): void {
    this.#reader.end()
  }
}

function checkSize(tarBytes: number, receivedBytes: number, { blob, limits }: IngestRequest): void {
  const what = `decompress layer ${blob.digest}`
  if (tarBytes > limits.tarBytes) throw overLimit(what, 'tarBytes', limits.tarBytes)
  if (tarBytes > RATIO_FREE_BYTES && tarBytes > receivedBytes * limits.ratio) {
    throw overLimit(`${what}: bytes for each compressed one`, 'ratio', limits.ratio)
  }
}

/** Hashes and counts a blob while another reader consumes it. */
class BlobCheck {
  readonly #iterator: AsyncIterator<Buffer>
  readonly #blob: LayerBlob
  readonly #hash: Hash
  #isAtEnd = false
  receivedBytes = 0

  constructor(source: AsyncIterable<Buffer>, blob: LayerBlob) {
    this.#iterator = source[Symbol.asyncIterator]()
    this.#blob = blob
    this.#hash = startDigest(blob.digest)
  }

  async *stream(): AsyncGenerator<Buffer> {
    for (let chunk = await this.#next(); chunk !== undefined; chunk = await this.#next()) yield chunk
  }

  async #next(): Promise<Buffer | undefined> {
    const next = await this.#iterator.next()
    if (next.done === true) {
      this.#isAtEnd = true
      return undefined
    }
    this.receivedBytes += next.value.length
    if (this.receivedBytes > this.#blob.sizeBytes) throw this.#wrongSize('more')
    this.#hash.update(next.value)
    return next.value
  }

  /** Reads the bytes that the decoder left over, and compares size and digest with the descriptor. */
  async finish(): Promise<void> {
    while (!this.#isAtEnd) await this.#next()
    const { digest, sizeBytes } = this.#blob
    if (this.receivedBytes !== sizeBytes) throw this.#wrongSize(String(this.receivedBytes))
    const actual = finishDigest(splitDigest(digest).algorithm, this.#hash)
    if (actual !== digest) {
      throw new LoamError(
        'DIGEST_MISMATCH',
        `verify blob ${digest}: its ${sizeBytes} bytes have the digest ${actual}`,
        {
          hint: 'The source or a proxy changed the data; nothing was kept.',
        },
      )
    }
  }

  #wrongSize(got: string): LoamError {
    const { digest, sizeBytes } = this.#blob
    return new LoamError('SIZE_MISMATCH', `verify blob ${digest}: expected ${sizeBytes} bytes, got ${got}`, {
      hint: 'The transfer was truncated, or the image states a wrong size; nothing was kept.',
    })
  }

  /** Replaces the decoder's error by one about size or digest if the data are damaged. */
  async blame(error: unknown): Promise<void> {
    if (isLoamError(error, 'COMPRESSION_INVALID', 'TAR_INVALID')) await this.finish()
    // Not awaited: a generator that waits for its next chunk ends only after that, and it may never come.
    else void this.#iterator.return?.()
  }
}
