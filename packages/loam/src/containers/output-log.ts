/*
 * The output of a detached process, in the directory of its container: `output.log`, and `output.log.1` with what was written before it. When the first
 * is full, the monitor (detached-run.ts) links it as the second and replaces it by an empty file: `output.log` always exists.
 */
import { closeSync, constants, type FSWatcher, fstatSync, openSync, readSync, statSync, watch } from 'node:fs'
import { dirname, join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { isErrno, LoamError } from '../errors/index.ts'
import type { ContainerId } from '../metadata/index.ts'
import type { Provisioner } from '../provisioner/index.ts'

const CHUNK_BYTES = 64 << 10
const LINE_FEED = 0x0a

/** Returns the file of a detached process's output; it is removed with its container. */
export function logPath(provisioner: Provisioner, id: ContainerId): string {
  return join(provisioner.folderOf(id), 'output.log')
}

/** Which lines to read, and until when. */
export interface OutputRange {
  /** Only the last lines. Undefined: all. */
  readonly tail: number | undefined
  /** Returns whether more may be written. Undefined: read what is there now. */
  readonly mayGrow: (() => Promise<boolean>) | undefined
  /** Longest time between two calls of `mayGrow`. */
  readonly pollMs: number
  /** Ends the output. */
  readonly signal: AbortSignal | undefined
}

/** Yields the output of the process of a container. @throws CONTAINER_NOT_DETACHED if none was kept */
export async function* readOutput(
  path: string,
  id: string,
  { tail, mayGrow, pollMs, signal }: OutputRange,
): AsyncGenerator<Buffer> {
  using log = new OutputLog(path, id)
  using changes = mayGrow === undefined ? undefined : new Changes(dirname(path))
  if (tail !== undefined) await log.seekToTail(tail, signal)
  for (;;) {
    // Before the output is read: what was written until the end is read after it.
    const isOver = mayGrow === undefined || !(await mayGrow())
    for (let chunk = log.read(); chunk !== undefined; chunk = log.read()) {
      yield chunk
      // Others are served meanwhile, and signals arrive.
      await setImmediate()
      if (signal?.aborted === true) return
    }
    if (isOver || signal?.aborted === true) return
    await changes?.next(pollMs, signal)
  }
}

interface Part {
  readonly fd: number
  position: number
}

/** Reads the files of an output in their order, also when they are replaced meanwhile. */
class OutputLog implements Disposable {
  readonly #path: string
  /** The oldest first. */
  readonly #parts: Part[]

  constructor(path: string, id: string) {
    this.#path = path
    this.#parts = openParts(path, undefined)
    if (this.#parts.length > 0) return
    throw new LoamError('CONTAINER_NOT_DETACHED', `read the output of ${id}: none was kept`, {
      hint: 'The output of `loam run` is kept with --detach only.',
    })
  }

  /** Returns the next bytes; undefined if there are none for now. */
  read(): Buffer | undefined {
    for (;;) {
      const [part] = this.#parts
      if (part === undefined) return undefined
      const chunk = readPart(part)
      if (chunk !== undefined) return chunk
      if (this.#parts.length === 1) {
        if (!this.#isReplaced(part)) return undefined
        // Nothing is written to a file that was replaced, but something may have been since it was read.
        const rest = readPart(part)
        if (rest !== undefined) return rest
        this.#parts.push(...openParts(this.#path, part))
        if (this.#parts.length === 1) return undefined
      }
      this.#parts.shift()
      closeSync(part.fd)
    }
  }

  /** Goes to the beginning of the last lines, reading backwards. */
  async seekToTail(lines: number, signal: AbortSignal | undefined): Promise<void> {
    const count: LineCount = { missing: lines + 1, isAtEnd: true }
    for (const part of this.#parts.toReversed()) {
      const start = await findLines(part, count, signal)
      if (start === undefined) continue
      part.position = start
      for (const { fd } of this.#parts.splice(0, this.#parts.indexOf(part))) closeSync(fd)
      return
    }
  }

  [Symbol.dispose](): void {
    for (const { fd } of this.#parts.splice(0)) closeSync(fd)
  }

  #isReplaced({ fd }: Part): boolean {
    const now = statSync(this.#path, { throwIfNoEntry: false })
    return now !== undefined && now.ino !== fstatSync(fd).ino
  }
}

/** Opens the files of an output that were written after the part that was read last. */
function openParts(path: string, last: Part | undefined): Part[] {
  const current = tryOpen(path)
  if (current === undefined) return []
  const older = tryOpen(`${path}.1`)
  if (older === undefined) return [{ fd: current, position: 0 }]
  const known = [current, ...(last === undefined ? [] : [last.fd])].map((fd) => fstatSync(fd).ino)
  if (!known.includes(fstatSync(older).ino)) return [older, current].map((fd) => ({ fd, position: 0 }))
  closeSync(older)
  return [{ fd: current, position: 0 }]
}

function tryOpen(path: string): number | undefined {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}

function readPart(part: Part): Buffer | undefined {
  const chunk = Buffer.alloc(CHUNK_BYTES)
  const length = readSync(part.fd, chunk, 0, chunk.length, part.position)
  part.position += length
  return length === 0 ? undefined : chunk.subarray(0, length)
}

interface LineCount {
  /** Line feeds to find, including the one before the first line. */
  missing: number
  /** Whether nothing was read yet: the last line may have no end. */
  isAtEnd: boolean
}

/** Returns the position after the last line feed that was missing; undefined if there are not as many. */
async function findLines(
  { fd }: Part,
  count: LineCount,
  signal: AbortSignal | undefined,
): Promise<number | undefined> {
  for (let end = fstatSync(fd).size; end > 0; ) {
    await setImmediate()
    if (signal?.aborted === true) return end
    const start = Math.max(0, end - CHUNK_BYTES)
    const chunk = Buffer.alloc(end - start)
    const length = readSync(fd, chunk, 0, chunk.length, start)
    for (let at = length - 1; at >= 0; at -= 1) {
      if (count.isAtEnd && chunk[at] !== LINE_FEED) count.missing -= 1
      count.isAtEnd = false
      if (chunk[at] === LINE_FEED) count.missing -= 1
      if (count.missing === 0) return start + at + 1
    }
    end = start
  }
  return undefined
}

/** Waits for changes in a directory (inotify), or where they cannot be watched for the time alone. */
class Changes implements Disposable {
  readonly #watcher: FSWatcher | undefined
  #hasChanged = false
  #wake: () => void = () => undefined

  constructor(directory: string) {
    try {
      this.#watcher = watch(directory, { persistent: false }, () => {
        this.#hasChanged = true
        this.#wake()
      })
      this.#watcher.on('error', () => undefined)
    } catch (error) {
      // A user has a limited number of watches.
      if (!isErrno(error, 'ENOSPC', 'EMFILE', 'ENFILE', 'ENOENT', 'ENOMEM')) throw error
    }
  }

  /** Returns after the next change since the last call, or when the time is over. */
  async next(timeoutMs: number, signal: AbortSignal | undefined): Promise<void> {
    if (!this.#hasChanged) {
      const { promise, resolve } = Promise.withResolvers<undefined>()
      const end = () => {
        resolve(undefined)
      }
      this.#wake = end
      const timer = setTimeout(end, timeoutMs)
      signal?.addEventListener('abort', end)
      if (signal?.aborted === true) end()
      await promise
      clearTimeout(timer)
      signal?.removeEventListener('abort', end)
    }
    this.#hasChanged = false
  }

  [Symbol.dispose](): void {
    this.#watcher?.close()
  }
}
