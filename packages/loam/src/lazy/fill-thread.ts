/* A thread that fills: everything that computes, and all reads and writes of tars. */
import { createHash, hash } from 'node:crypto'
import { readSync, writeSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'
import { inflateSpan } from '../compression/index.ts'
import { isErrno, isLoamError } from '../errors/index.ts'
import { type Digest, digestOf, finishDigest } from '../image/index.ts'
import { isSkeletonOf, type LazyIndex, readLazyIndex } from '../lazy-index/index.ts'
import { readStored } from '../linux/index.ts'
import { DEFAULT_LAYER_LIMITS } from '../tree/index.ts'
import type { IndexFile, SpanJob, SpanOutcome, ThreadAnswer, ThreadRequest } from './span-jobs.ts'

/** Indexes that are kept, of some megabytes each. */
const KEPT_INDEXES = 4
/** A multiple of a tar's blocks, of which the pieces of a skeleton are parts: none is in two reads. */
const READ_BYTES = 1 << 20
/** The limits were checked when the layer was described. */
const LIMITS = { ...DEFAULT_LAYER_LIMITS, tarBytes: Number.MAX_SAFE_INTEGER, ratio: Number.MAX_SAFE_INTEGER }

let memory = Buffer.allocUnsafeSlow(0)
const indexes = new Map<Digest, LazyIndex>()

const port = parentPort
port?.on('message', ({ id, job }: ThreadRequest) => {
  port.postMessage({ id, outcome: run(job) } satisfies ThreadAnswer)
})

function run(job: SpanJob): SpanOutcome {
  try {
    switch (job.kind) {
      case 'fill': {
        const { compression, bit, lengthBytes } = job
        const window = indexOf(job.index).window(job.span)
        const bytes = toBuffer(job.bytes)
        const output = memoryFor(lengthBytes)
        return write(job, inflateSpan({ compression, bytes, bit, window, lengthBytes, output }))
      }
      case 'write':
        return write(job, toBuffer(job.bytes))
      case 'check': {
        const bytes = memoryFor(job.lengthBytes)
        readFully(job.fd, bytes, job.tarStart)
        return isRight(bytes, job.sum) ? { kind: 'here' } : { kind: 'wrong', why: 'its sum differs' }
      }
      case 'verify':
        return verify(job)
    }
  } catch (error) {
    if (isErrno(error, 'ENOSPC', 'EDQUOT')) return { kind: 'full' }
    if (isLoamError(error, 'COMPRESSION_INVALID')) return { kind: 'wrong', why: error.message }
    return { kind: 'failed', why: error instanceof Error ? error.message : String(error) }
  }
}

function toBuffer({ buffer, byteOffset, length }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, length)
}

/** Returns the memory of this thread, for one use at a time. New memory for each span would cost as much as decompressing it. */
function memoryFor(lengthBytes: number): Buffer {
  if (memory.length < lengthBytes) memory = Buffer.allocUnsafeSlow(lengthBytes)
  return memory.subarray(0, lengthBytes)
}

function write(
  { fd, tarStart, sum }: { readonly fd: number; readonly tarStart: number; readonly sum: Uint8Array },
  bytes: Buffer,
): SpanOutcome {
  if (!isRight(bytes, sum)) return { kind: 'wrong', why: 'its sum differs' }
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at, tarStart + at)
  return { kind: 'here' }
}

function isRight(bytes: Uint8Array, sum: Uint8Array): boolean {
  return hash('sha256', bytes, 'buffer').equals(sum)
}

function readFully(fd: number, bytes: Uint8Array, position: number): void {
  for (let at = 0; at < bytes.length; ) {
    const count = readSync(fd, bytes, at, bytes.length - at, position + at)
    if (count === 0) throw new Error('the tar is too short')
    at += count
  }
}

/** Reads the tar once, for its digest and for the skeleton: what the kernel has mounted was made from that. */
function verify({ fd, tarBytes, algorithm, index }: Extract<SpanJob, { kind: 'verify' }>): SpanOutcome {
  const sum = createHash(algorithm)
  const buffer = memoryFor(READ_BYTES)
  let start = 0
  let bytes = buffer.subarray(0, 0)
  const isRead = (place: number) => start + bytes.length > place
  const readUntil = (place: number) => {
    while (!isRead(place)) {
      start += bytes.length
      bytes = buffer.subarray(0, Math.min(READ_BYTES, tarBytes - start))
      readFully(fd, bytes, start)
      sum.update(bytes)
    }
  }
  const isSkeletonRight = isSkeletonOf(indexOf(index).skeletonPieces(), tarBytes, (tarStart, lengthBytes) => {
    readUntil(tarStart)
    return bytes.subarray(tarStart - start, tarStart - start + lengthBytes)
  })
  if (tarBytes > 0) readUntil(tarBytes - 1)
  return { kind: 'verified', digest: finishDigest(algorithm, sum), isSkeletonRight }
}

function indexOf({ path, digest }: IndexFile): LazyIndex {
  const index = indexes.get(digest) ?? readIndex(path, digest)
  // The one that was used last is the last in the map.
  indexes.delete(digest)
  indexes.set(digest, index)
  const [oldest] = indexes.keys()
  if (indexes.size > KEPT_INDEXES && oldest !== undefined) indexes.delete(oldest)
  return index
}

function readIndex(path: string, digest: Digest): LazyIndex {
  const bytes = readStored(path)
  if (digestOf(bytes) !== digest) throw new Error('its lazy index was replaced')
  return readLazyIndex(bytes, LIMITS)
}
