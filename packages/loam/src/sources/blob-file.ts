import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { LoamError, throwIfAborted, toLoamError } from '../errors/index.ts'
import {
  type DiffId,
  type Digest,
  finishDigest,
  parseDiffId,
  splitDigest,
  startDigest,
} from '../image/index.ts'
import { openInput } from '../linux/index.ts'
import { decompress } from '../compression/index.ts'
import { SequentialWriter } from '../content/index.ts'
import { type LayerLimits, overLimit } from '../tree/index.ts'
import type { OpenBlobOptions } from './image-source.ts'

const CHUNK_BYTES = 256 << 10
/** Bytes that are decompressed and hashed in one turn of the event loop: a few milliseconds. */
const TURN_BYTES = 1 << 20
const RATIO_FREE_BYTES = 16 << 20

export interface InflateOptions {
  /** Undefined: any size. */
  readonly limits?: Pick<LayerLimits, 'tarBytes' | 'ratio'> | undefined
  readonly signal?: AbortSignal | undefined
}

/** Yields a stream without its first bytes, for streams that cannot be opened at an offset. */
export async function* skipBytes(source: AsyncIterable<Buffer>, count = 0): AsyncGenerator<Buffer> {
  let left = count
  for await (const chunk of source) {
    const skipped = Math.min(left, chunk.length)
    left -= skipped
    if (skipped < chunk.length) yield chunk.subarray(skipped)
  }
}

/** Streams a file in large chunks, from one byte up to another. */
export async function* streamFile(
  path: string,
  signal?: AbortSignal,
  range: { readonly start?: number | undefined; readonly end?: number } = {},
): AsyncGenerator<Buffer> {
  try {
    const fd = openInput(path)
    const options = {
      start: range.start ?? 0,
      end: range.end ?? Infinity,
      fd,
      highWaterMark: CHUNK_BYTES,
      ...(signal === undefined ? {} : { signal }),
    }
    for await (const chunk of createReadStream(path, options)) yield chunk as Buffer
  } catch (error) {
    throw toLoamError(error, `read ${path}`, signal)
  }
}

/** Writes a blob to a new file and computes its diffID. @throws DIGEST_MISMATCH, COMPRESSION_INVALID, LAYER_LIMIT, CANCELED */
export async function storeBlob(
  source: AsyncIterable<Buffer>,
  digest: Digest,
  path: string,
  options: InflateOptions,
): Promise<{
  readonly sizeBytes: number
  readonly diffId: DiffId
  readonly open: (options: OpenBlobOptions) => AsyncIterable<Buffer>
}> {
  const hash = startDigest(digest)
  const what = `read blob ${digest}`
  let sizeBytes = 0
  {
    await using writer = new SequentialWriter(path)
    for await (const chunk of source) {
      sizeBytes += chunk.length
      checkSize(what, sizeBytes, options)
      hash.update(chunk)
      await writer.write(chunk)
    }
    await writer.flush()
  }
  const actual = finishDigest(splitDigest(digest).algorithm, hash)
  if (actual !== digest) {
    throw new LoamError('DIGEST_MISMATCH', `verify blob ${digest}: its bytes have the digest ${actual}`, {
      hint: 'The source or a proxy changed the data; nothing was kept.',
    })
  }
  return {
    sizeBytes,
    diffId: await hashUncompressed(streamFile(path, options.signal), what, options),
    open: ({ offset, signal }) => streamFile(path, signal, { start: offset }),
  }
}

/** Returns the digest of a layer blob and its diffID. @throws COMPRESSION_INVALID, LAYER_LIMIT, CANCELED */
export async function hashBlob(
  source: AsyncIterable<Buffer>,
  what: string,
  options: InflateOptions,
): Promise<{ digest: Digest; diffId: DiffId }> {
  const hash = createHash('sha256')
  async function* hashed() {
    for await (const chunk of source) {
      hash.update(chunk)
      yield chunk
    }
  }
  const diffId = await hashUncompressed(hashed(), what, options)
  return { digest: finishDigest('sha256', hash), diffId }
}

/**
 * Yields the uncompressed bytes of a blob in this thread. A small blob may have gigabytes of them, and its decoder never waits for anything: other work
 * of the thread gets its turn in between. `what` is for errors. @throws COMPRESSION_INVALID, LAYER_LIMIT, CANCELED, and the errors of the source
 */
export async function* inflateHere(
  source: AsyncIterable<Buffer>,
  what: string,
  options: InflateOptions,
): AsyncGenerator<Buffer> {
  let receivedBytes = 0
  async function* counted() {
    for await (const chunk of source) {
      receivedBytes += chunk.length
      yield chunk
    }
  }
  let bytes = 0
  let turnBytes = 0
  for await (const chunk of decompress(counted())) {
    bytes += chunk.length
    turnBytes += chunk.length
    checkSize(what, bytes, options, receivedBytes)
    yield chunk
    if (turnBytes < TURN_BYTES) continue
    turnBytes = 0
    await setImmediate()
    throwIfAborted(options.signal, what)
  }
}

function checkSize(what: string, bytes: number, { limits }: InflateOptions, receivedBytes = bytes): void {
  if (limits === undefined) return
  if (bytes > limits.tarBytes) throw overLimit(what, 'tarBytes', limits.tarBytes)
  if (bytes > RATIO_FREE_BYTES && bytes > receivedBytes * limits.ratio)
    throw overLimit(`${what}: bytes for each compressed one`, 'ratio', limits.ratio)
}

async function hashUncompressed(
  source: AsyncIterable<Buffer>,
  what: string,
  options: InflateOptions,
): Promise<DiffId> {
  const hash = createHash('sha256')
  for await (const chunk of inflateHere(source, what, options)) hash.update(chunk)
  return parseDiffId(finishDigest('sha256', hash))
}
