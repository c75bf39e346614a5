import { createGunzip, createZstdDecompress, constants as zlib } from 'node:zlib'
import { isLoamError, LoamError } from '../errors/index.ts'
import { hasIsal, IsalInflater } from './isal.ts'
import { type CheckpointSink, GzipCheckpoints, plainCheckpoints, ZstdCheckpoints } from './checkpoints.ts'
import { type Inflater, openInflater, type Packing } from './inflaters.ts'
import { ChunkPool, releaseChunk } from './chunk-memory.ts'
import { readAhead } from './read-ahead.ts'
import { hasZstd, ZSTD_WINDOW_LOG_MAX, ZstdInflater } from './zstd.ts'
import { zstdFrames } from './zstd-frames.ts'

/** Node's default of 16 KiB inflates at half the speed. */
export const CHUNK_BYTES = 256 << 10
/** Size of input that is worth another thread: handing it over takes as long as inflating a few KiB. */
const MIN_ASIDE_BYTES = 16 << 10

/** The first name in a plain tar could be `BZh9`, but without the magic of a block of bzip2, or of its end, after it. */
const BZIP2 = /^BZh[1-9](?:1AY&SY|\x17\x72\x45\x38\x50\x90)/
const XZ = /^\xfd7zXZ\0/
/** Input that another thread gets at once: chunks of a socket are smaller. What it makes of more is not in the processor's cache any more. */
const GATHERED_BYTES = 256 << 10
/** Number of bytes that show how a blob is compressed. */
export const HEAD_BYTES = 10

export interface DecompressOptions {
  /** Whether to use ISA-L and libzstd, if they are installed. */
  readonly withLibraries?: boolean | undefined
  /** Memory for chunks: the reader may give each chunk back when it does not need it any more. */
  readonly pool?: ChunkPool | undefined
  /** Inflates the next piece in another thread while the reader works on this one. For large blobs. */
  readonly isAhead?: boolean | undefined
  /** Takes the checkpoints of gzip, zstd and plain tars. They need `hasRawInflate`. */
  readonly checkpoints?: CheckpointSink | undefined
}

/**
 * Yields the uncompressed bytes of a layer blob, and takes ownership of its chunks: gzip, xz and bzip2 with any number of members, zstd
 * with any number of frames and skippable frames, or plain. ISA-L decompresses gzip, and libzstd zstd, where these are installed, which is
 * several times faster. @throws COMPRESSION_INVALID, and the errors of the source
 */
export async function* decompress(
  source: AsyncIterable<Buffer>,
  options: DecompressOptions = {},
): AsyncGenerator<Buffer> {
  const { withLibraries = true } = options
  const { packing, rest } = await peekPacking(source)
  if (options.checkpoints !== undefined && packing !== 'xz' && packing !== 'bzip2') {
    yield* withCheckpoints(rest, packing, options.checkpoints, options)
    return
  }
  options.checkpoints?.onPacking(packing)
  switch (packing) {
    case 'none':
      yield* rest
      break
    case 'gzip':
      if (withLibraries && hasIsal()) yield* inflateByLibrary(rest, new IsalInflater(), options)
      else yield* inflate(rest, createGunzip({ chunkSize: CHUNK_BYTES }))
      break
    case 'xz':
    case 'bzip2':
      yield* inflateByLibrary(rest, openInflater(packing), options)
      break
    case 'zstd':
      if (withLibraries && hasZstd()) yield* inflateByLibrary(rest, new ZstdInflater(), options)
      // One decoder for each frame: before Node 26.10 a decoder silently stops at the end of the first one.
      else for await (const frame of zstdFrames(rest)) yield* inflate(frame, createZstd())
      break
  }
}

function withCheckpoints(
  source: AsyncGenerator<Buffer>,
  packing: Exclude<Packing, 'xz' | 'bzip2'>,
  sink: CheckpointSink,
  options: DecompressOptions,
): AsyncGenerator<Buffer> {
  sink.onPacking(packing)
  switch (packing) {
    case 'none':
      return plainCheckpoints(source, sink)
    case 'gzip':
      return inflateByLibrary(source, new GzipCheckpoints(sink), options)
    case 'zstd':
      return inflateByLibrary(source, new ZstdCheckpoints(sink), options)
  }
}

function createZstd(): ReturnType<typeof createZstdDecompress> {
  return createZstdDecompress({
    chunkSize: CHUNK_BYTES,
    params: { [zlib.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX },
  })
}

/** Returns how a blob is compressed, by its first `HEAD_BYTES` bytes. */
export function detectPacking(head: Buffer): Packing {
  if (head[0] === 0x1f && head[1] === 0x8b) return 'gzip'
  const text = head.toString('latin1')
  if (XZ.test(text)) return 'xz'
  if (BZIP2.test(text)) return 'bzip2'
  if (head.length < 4) return 'none'
  const magic = head.readUInt32LE(0)
  const isSkippable = (magic & 0xfffffff0) >>> 0 === 0x184d2a50
  return magic === 0xfd2fb528 || isSkippable ? 'zstd' : 'none'
}

/** Returns how a stream is compressed, and all of the stream. */
export async function peekPacking(
  source: AsyncIterable<Buffer>,
): Promise<{ readonly packing: Packing; readonly rest: AsyncGenerator<Buffer> }> {
  const iterator = source[Symbol.asyncIterator]()
  let head: Buffer = Buffer.alloc(0)
  while (head.length < HEAD_BYTES) {
    const next = await iterator.next()
    if (next.done === true) break
    head = head.length === 0 ? next.value : Buffer.concat([head, next.value])
  }
  return { packing: detectPacking(head), rest: continueWith(head, iterator) }
}

async function* continueWith(head: Buffer, iterator: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  try {
    if (head.length > 0) yield head
    yield* { [Symbol.asyncIterator]: () => iterator }
  } finally {
    // Also if the reader stops at the first piece.
    await iterator.return?.()
  }
}

/** As `inflate` below, but by calling a library. */
function inflateByLibrary(
  source: AsyncIterable<Buffer>,
  inflater: Inflater,
  { pool = new ChunkPool(CHUNK_BYTES), isAhead = false, checkpoints }: DecompressOptions,
): AsyncGenerator<Buffer> {
  if (!isAhead)
    return inflateMembers(released(source), pool, inflater, async (target) => inflater.inflate(target))
  const act = async (target: Buffer) =>
    inflater.leftBytes < MIN_ASIDE_BYTES || target.length < MIN_ASIDE_BYTES
      ? inflater.inflate(target)
      : inflater.inflateAside(target)
  // Checkpoints keep input, and want little of it.
  const input = checkpoints === undefined ? gathered(source) : released(source)
  return readAhead(inflateMembers(input, pool, inflater, act))
}

/** Releases the memory of each chunk when the reader asks for the next one. */
async function* released(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  for await (const chunk of source) {
    yield chunk
    releaseChunk(chunk)
  }
}

/** Puts small chunks together, in memory that is used again when the reader asks for more. */
async function* gathered(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const memory = Buffer.allocUnsafeSlow(GATHERED_BYTES)
  let filled = 0
  for await (const chunk of source) {
    let at = 0
    while (at < chunk.length) {
      if (filled === 0 && chunk.length - at >= GATHERED_BYTES) {
        yield chunk.subarray(at)
        break
      }
      const bytes = chunk.copy(memory, filled, at)
      at += bytes
      filled += bytes
      if (filled < GATHERED_BYTES) continue
      yield memory
      filled = 0
    }
    releaseChunk(chunk)
  }
  if (filled > 0) yield memory.subarray(0, filled)
}

/** Holds one piece of output, which is yielded when it is full. `act` is one of the inflater's functions. */
async function* inflateMembers(
  source: AsyncIterable<Buffer>,
  pool: ChunkPool,
  opened: Inflater,
  act: (target: Buffer) => Promise<number>,
): AsyncGenerator<Buffer> {
  using inflater = opened
  let output = pool.take()
  let filled = 0
  let isPadding = false
  for await (const chunk of source) {
    if (isPadding) {
      checkPadding(chunk)
      continue
    }
    inflater.input(chunk)
    // After a full piece the library may hold more output, though the input is used up.
    while (inflater.leftBytes > 0 || filled === output.length) {
      if (filled === output.length) {
        yield output
        output = pool.take()
        filled = 0
      }
      if (inflater.isAtEnd) {
        const [next] = inflater.left
        isPadding = next !== undefined && inflater.isPadding(next)
        if (isPadding || next === undefined) break
      }
      const target = output.subarray(filled)
      filled += await inflateInto(inflater, target, act)
    }
    if (isPadding) checkPadding(inflater.left)
  }
  if (!inflater.isAtEnd)
    throw new LoamError('COMPRESSION_INVALID', 'decompress layer: unexpected end of file')
  if (filled > 0) yield output.subarray(0, filled)
}

async function inflateInto(
  inflater: Inflater,
  target: Buffer,
  act: (target: Buffer) => Promise<number>,
): Promise<number> {
  try {
    if (inflater.isAtEnd) inflater.nextMember()
    return await act(target)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw new LoamError('COMPRESSION_INVALID', `decompress layer: ${error.message}`, { cause: error })
  }
}

type Decoder = ReturnType<typeof createGunzip> | ReturnType<typeof createZstdDecompress>

async function* inflate(source: AsyncIterable<Buffer>, decoder: Decoder): AsyncGenerator<Buffer> {
  const feeding = feed(source, decoder)
  // The decoder passes a failure of the source on to the loop below; here it only must not be unhandled.
  feeding.catch((error: unknown) =>
    decoder.destroy(error instanceof Error ? error : new Error(String(error))),
  )
  try {
    for await (const chunk of decoder) yield chunk as Buffer
    await feeding
  } catch (error) {
    if (isLoamError(error) || !(error instanceof Error)) throw error
    const code = 'code' in error ? String(error.code) : ''
    if (!/^(?:Z_|ZSTD_|ERR_|UNKNOWN)/.test(code)) throw error
    throw new LoamError('COMPRESSION_INVALID', `decompress layer: ${error.message}`, { cause: error })
  } finally {
    decoder.destroy()
  }
}

/**
 * Writes a source into a decoder. After the compressed data only zeros may follow, which tar pads tapes with; the
 * decoder itself would treat any later piece as a second end and fail.
 */
async function feed(source: AsyncIterable<Buffer>, decoder: Decoder): Promise<void> {
  let fedBytes = 0
  let isOver = false
  for await (const chunk of source) {
    if (isOver) {
      checkPadding(chunk)
      continue
    }
    fedBytes += chunk.length
    await write(decoder, chunk)
    const leftBytes = fedBytes - decoder.bytesWritten
    isOver = leftBytes > 0
    if (isOver) checkPadding(chunk.subarray(chunk.length - leftBytes))
    releaseChunk(chunk)
  }
  decoder.end()
}

async function write(decoder: Decoder, chunk: Buffer): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  decoder.write(chunk, (error) => {
    if (error === null || error === undefined) resolve()
    else reject(error)
  })
  await promise
}

function checkPadding(bytes: Buffer): void {
  if (bytes.some((byte) => byte !== 0)) {
    throw new LoamError('COMPRESSION_INVALID', 'decompress layer: something else follows the compressed data')
  }
}
