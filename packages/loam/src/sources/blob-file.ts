import { createHash } from 'node:crypto'
import { createReadStream, statSync } from 'node:fs'
import { LoamError, toLoamError } from '../errors/index.ts'
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
import type { OpenBlobOptions } from './image-source.ts'

const CHUNK_BYTES = 256 << 10

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

/** Writes a blob to a new file and computes its diffID. @throws DIGEST_MISMATCH, COMPRESSION_INVALID */
export async function storeBlob(
  source: AsyncIterable<Buffer>,
  digest: Digest,
  path: string,
): Promise<{
  readonly sizeBytes: number
  readonly diffId: DiffId
  readonly open: (options: OpenBlobOptions) => AsyncIterable<Buffer>
}> {
  const hash = startDigest(digest)
  {
    await using writer = new SequentialWriter(path)
    for await (const chunk of source) {
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
    sizeBytes: statSync(path).size,
    diffId: await hashUncompressed(streamFile(path)),
    open: ({ offset, signal }) => streamFile(path, signal, { start: offset }),
  }
}

/** Returns the digest of a layer blob and its diffID. @throws COMPRESSION_INVALID */
export async function hashBlob(source: AsyncIterable<Buffer>): Promise<{ digest: Digest; diffId: DiffId }> {
  const hash = createHash('sha256')
  async function* hashed() {
    for await (const chunk of source) {
      hash.update(chunk)
      yield chunk
    }
  }
  const diffId = await hashUncompressed(hashed())
  return { digest: finishDigest('sha256', hash), diffId }
}

async function hashUncompressed(source: AsyncIterable<Buffer>): Promise<DiffId> {
  const hash = createHash('sha256')
  for await (const chunk of decompress(source)) hash.update(chunk)
  return parseDiffId(finishDigest('sha256', hash))
}
