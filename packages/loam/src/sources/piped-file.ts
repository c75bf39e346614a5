import { closeSync, constants, fstatSync, readSync, type Stats, statSync } from 'node:fs'
import { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { isErrno, LoamError, throwIfAborted } from '../errors/index.ts'
import { SequentialWriter } from '../content/index.ts'
import { asCaller, kindOf } from '../linux/index.ts'
import { overLimit } from '../tree/index.ts'

/** Names standard input. */
const STANDARD_INPUT = '-'
const POLL_MS = 10
/** How long to wait for a writer of a named pipe. */
const WRITER_TIMEOUT_MS = 10_000
const CHUNK_BYTES = 256 << 10

export interface PipedFileOptions {
  readonly newPath: () => string
  readonly limits: { readonly tarBytes: number }
  readonly signal?: AbortSignal | undefined
}

/**
 * Returns a path from which the user's file can be read: its own, or that of a copy if it is standard input (`-`), a
 * pipe or a socket. @throws SOURCE_INVALID for a terminal or another device, LAYER_LIMIT, CANCELED
 */
export async function copyFromPipe(path: string, options: PipedFileOptions): Promise<string> {
  const fd = descriptorOf(path)
  const stats = fd === undefined ? statSync(path, { throwIfNoEntry: false }) : findOpen(fd)
  const what = fd === 0 ? 'standard input' : path
  const isPipe = stats?.isFIFO() === true || (fd !== undefined && stats?.isSocket() === true)
  if (!isPipe) return fd === undefined ? path : pathOf(fd, stats, what)
  const chunks =
    fd === undefined ? readNamedPipe(path, options.signal) : readDescriptor(fd, what, options.signal)
  return copyChunks(chunks, what, options)
}

/** Returns the path of a copy of a stream of bytes. @throws LAYER_LIMIT, SOURCE_INVALID, CANCELED, and the errors of the stream */
export async function copyStream(
  stream: AsyncIterable<Uint8Array>,
  { signal, ...options }: PipedFileOptions,
): Promise<string> {
  return copyChunks(readUntil(stream, signal), 'the stream of the image', options)
}

/** Yields the data of a stream until the signal fires: the stream may send nothing any more. */
async function* readUntil(stream: AsyncIterable<unknown>, signal: AbortSignal | undefined): AsyncGenerator {
  const iterator = stream[Symbol.asyncIterator]()
  try {
    for (;;) {
      const { done, value } = await nextOf(iterator, signal)
      if (done === true) return
      yield value
    }
  } finally {
    // It may wait for data that never arrives, and no caller waits for it.
    iterator.return?.().catch(() => undefined)
  }
}

async function nextOf(
  iterator: AsyncIterator<unknown>,
  signal: AbortSignal | undefined,
): Promise<IteratorResult<unknown>> {
  throwIfAborted(signal, 'read the stream of the image')
  const { promise, resolve, reject } = Promise.withResolvers<IteratorResult<unknown>>()
  const stop = () => {
    reject(signal?.reason)
  }
  signal?.addEventListener('abort', stop)
  iterator.next().then(resolve, reject)
  try {
    return await promise
  } finally {
    signal?.removeEventListener('abort', stop)
  }
}

async function copyChunks(
  chunks: AsyncIterable<unknown>,
  what: string,
  { newPath, limits }: Omit<PipedFileOptions, 'signal'>,
): Promise<string> {
  const copy = newPath()
  await using writer = new SequentialWriter(copy)
  let bytes = 0
  for await (const chunk of chunks) {
    if (!(chunk instanceof Uint8Array))
      throw new LoamError('SOURCE_INVALID', `read ${what}: it consists of ${typeof chunk}s, expected bytes`)
    bytes += chunk.length
    if (bytes > limits.tarBytes) throw overLimit(`read ${what}`, 'tarBytes', limits.tarBytes)
    // Whoever has other bytes than a Buffer may write to them again.
    await writer.write(Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk))
  }
  if (bytes === 0) throw new LoamError('SOURCE_INVALID', `read ${what}: nothing came`)
  await writer.flush()
  return copy
}

/** Returns the open descriptor that a path names: opening it again would wait for a writer that has ended. */
function descriptorOf(path: string): number | undefined {
  if (path === STANDARD_INPUT || path === '/dev/stdin') return 0
  const match = /^(?:\/dev|\/proc\/self)\/fd\/(\d+)$/.exec(path)
  return match === null ? undefined : Number(match[1])
}

/** Undefined for a descriptor that is not open. */
function findOpen(fd: number): Stats | undefined {
  try {
    return fstatSync(fd)
  } catch (error) {
    if (isErrno(error, 'EBADF')) return undefined
    throw error
  }
}

function pathOf(fd: number, stats: Stats | undefined, what: string): string {
  if (stats === undefined) throw new LoamError('SOURCE_NOT_FOUND', `read ${what}: it is not open`)
  if (stats.isFile()) return `/proc/self/fd/${fd}`
  throw new LoamError(
    'SOURCE_INVALID',
    `read ${what}: it is ${kindOf(stats)}, and expected a file or a pipe`,
    {
      hint: 'For example: docker save app | loam put - app:1',
    },
  )
}

async function* readDescriptor(
  fd: number,
  what: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  throwIfAborted(signal, `read ${what}`)
  const socket = new Socket({ fd, readable: true, writable: false })
  const stop = () => socket.destroy()
  signal?.addEventListener('abort', stop)
  try {
    for await (const chunk of socket) yield chunk as Buffer
  } catch (error) {
    throwIfAborted(signal, `read ${what}`)
    throw error
  } finally {
    signal?.removeEventListener('abort', stop)
    socket.destroy()
  }
  throwIfAborted(signal, `read ${what}`)
}

/** Reads a named pipe, and waits for a writer first: a pipe without one reads as ended. */
async function* readNamedPipe(path: string, signal: AbortSignal | undefined): AsyncGenerator<Buffer> {
  const fd = asCaller(path, (open) => open(constants.O_RDONLY | constants.O_NONBLOCK))
  try {
    const chunk = Buffer.alloc(CHUNK_BYTES)
    let hasWriter = false
    for (const end = performance.now() + WRITER_TIMEOUT_MS; ; ) {
      throwIfAborted(signal, `read ${path}`)
      const length = readAvailable(fd, chunk)
      if (length === 0 && hasWriter) return
      if (length === 0 && performance.now() > end) {
        throw new LoamError('SOURCE_INVALID', `read ${path}: it is a named pipe without a writer`)
      }
      hasWriter ||= length !== 0
      if (length === undefined || length === 0) await sleep(POLL_MS)
      else yield Buffer.from(chunk.subarray(0, length))
    }
  } finally {
    closeSync(fd)
  }
}

/** Returns undefined if nothing has arrived, and 0 if there is no writer. */
function readAvailable(fd: number, chunk: Buffer): number | undefined {
  try {
    return readSync(fd, chunk)
  } catch (error) {
    if (isErrno(error, 'EAGAIN')) return undefined
    throw error
  }
}
