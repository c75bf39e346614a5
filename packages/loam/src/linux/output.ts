/*
 * Outputs: the standard streams, other descriptors, and existing files to write to (pipes, devices). Loam writes to whatever a user names as
 * an output, and never replaces or removes it unless it is a plain file.
 */
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readlinkSync,
  realpathSync,
  type Stats,
  statSync,
  writeSync,
} from 'node:fs'
import { open } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { setImmediate as yieldToOthers, setTimeout as sleep } from 'node:timers/promises'
import { isErrno, LoamError, throwIfAborted, toLoamError } from '../errors/index.ts'

const STDOUT = 1
const STDERR = 2
const WAIT_MS = 5
/** Interval of the checks whether a named pipe has a reader. */
const PIPE_WAIT_MS = 50
const MAX_LINKS = 40
/** How often a full output is tried again at once. */
const EAGER_TRIES = 64

/** The target of an output: a new file or folder by its path, or an open descriptor. */
export type OutputTarget = string | number

/** The meaning of an output's name: a plain file to create, or an existing descriptor, pipe or device. */
export type ResolvedOutput =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'descriptor'; readonly descriptor: number }
  | { readonly kind: 'special'; readonly path: string; readonly isDisk: boolean; readonly stats: Stats }

/**
 * Resolves the name that a user gave for an output. `-` is standard output, and so are its names in /dev and /proc. A relative path starts from
 * `cwd`; '' is the directory of this process. Symlinks are followed, and devices are used, only in /dev: elsewhere somebody else may have put them there,
 * and they are existing files.
 */
export function findOutput(name: string, cwd: string): ResolvedOutput {
  if (name === '-') return { kind: 'descriptor', descriptor: STDOUT }
  const path = resolve(cwd, name)
  const descriptor = descriptorOf(path)
  if (descriptor !== undefined) return { kind: 'descriptor', descriptor }
  const isDeviceName = isOfDevices(dirname(path))
  const stats = findStats(path, isDeviceName)
  const isDevice = stats?.isBlockDevice() === true || stats?.isCharacterDevice() === true
  if (stats?.isFIFO() !== true && !(isDevice && isDeviceName)) return { kind: 'file', path }
  return { kind: 'special', path, isDisk: stats.isBlockDevice(), stats }
}

/** Returns what has a name; undefined also where a part of its path is no directory. */
function findStats(path: string, followsLinks: boolean): Stats | undefined {
  try {
    return (followsLinks ? statSync : lstatSync)(path, { throwIfNoEntry: false })
  } catch (error) {
    if (isErrno(error, 'ENOTDIR')) return undefined
    throw toLoamError(error, `write ${path}`)
  }
}

/** Returns whether a directory is one of the system's devices: not /dev/shm, where everybody may write. */
function isOfDevices(directory: string): boolean {
  try {
    const real = realpathSync(directory)
    return `${real}/`.startsWith('/dev/') && statSync(real).dev === statSync('/dev').dev
  } catch {
    return false
  }
}

/** Returns whether a user means the standard output of this process. */
export function isStandardOutput(name: string, cwd: string): boolean {
  const output = findOutput(name, cwd)
  return output.kind === 'descriptor' && output.descriptor === STDOUT
}

/**
 * Follows links to a descriptor of this process: /dev/stdout, /dev/fd/1, /proc/self/fd/1, and links to these. A link leads only to a standard stream:
 * somebody else may have put it there, and the others are files of this process.
 */
function descriptorOf(path: string): number | undefined {
  const own = new RegExp(`^/proc/${process.pid}(?:/task/\\d+)?/fd/(\\d+)$`)
  let current = path
  for (let followed = 0; followed < MAX_LINKS; followed += 1) {
    try {
      current = join(realpathSync(dirname(current)), basename(current))
      const [, number] = own.exec(current) ?? []
      if (number !== undefined) {
        fstatSync(Number(number))
        return followed === 0 || Number(number) <= STDERR ? Number(number) : undefined
      }
      if (lstatSync(current, { throwIfNoEntry: false })?.isSymbolicLink() !== true) return undefined
      current = resolve(dirname(current), readlinkSync(current))
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return undefined
      throw toLoamError(error, `write ${path}`)
    }
  }
  return undefined
}

/** An open output. */
export interface OpenOutput extends AsyncDisposable {
  readonly descriptor: number
}

/** Opens an existing output. Waits for a reader of a named pipe. @throws OUTPUT_EXISTS if its name is another file's by now, CANCELED and system errors */
export async function openOutput(
  output: Exclude<ResolvedOutput, { kind: 'file' }>,
  signal: AbortSignal | undefined,
): Promise<OpenOutput> {
  if (output.kind === 'descriptor') return openAgain(output.descriptor)
  const attempted = `write ${output.path}`
  for (;;) {
    throwIfAborted(signal, attempted)
    try {
      const file = await open(output.path, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY)
      const { ino, dev } = await file.stat()
      if (ino === output.stats.ino && dev === output.stats.dev)
        return { descriptor: file.fd, [Symbol.asyncDispose]: async () => file.close() }
      await file.close()
      throw new LoamError('OUTPUT_EXISTS', `${attempted}: another file has taken its place`)
    } catch (error) {
      // A named pipe fails with ENXIO until it has a reader, and a socket always.
      const isPipe = isErrno(error, 'ENXIO') && statSync(output.path).isFIFO()
      if (!isPipe) throw toLoamError(error, attempted)
    }
    await sleep(PIPE_WAIT_MS)
  }
}

/**
 * Opens a pipe of this process again without blocking: a blocked write could not be canceled. The descriptor itself stays as it is, because other
 * processes share its flags. Other files, and pipes of other users, are used as they are.
 */
function openAgain(descriptor: number): OpenOutput {
  const asIs = { descriptor, [Symbol.asyncDispose]: async () => Promise.resolve() }
  if (!fstatSync(descriptor).isFIFO()) return asIs
  try {
    const own = openSync(`/proc/self/fd/${descriptor}`, constants.O_WRONLY | constants.O_NONBLOCK)
    return {
      descriptor: own,
      [Symbol.asyncDispose]: async () => {
        closeSync(own)
        return Promise.resolve()
      },
    }
  } catch {
    return asIs
  }
}

/**
 * Writes all of a chunk to a descriptor. While it is full, this thread serves others.
 * @throws OUTPUT_CLOSED if there is no reader any more, CANCELED, and system errors
 */
export async function writeWhenPossible(
  descriptor: number,
  chunk: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<void> {
  let tries = 0
  for (let done = 0; done < chunk.length; ) {
    throwIfAborted(signal, `write ${nameOf(descriptor)}`)
    const written = writePart(descriptor, chunk, done)
    done += written
    tries = written > 0 ? 0 : tries + 1
    if (tries > EAGER_TRIES) await sleep(WAIT_MS)
    else if (tries > 0) await yieldToOthers()
  }
}

/**
 * Writes all of a chunk to a descriptor, and waits while it is full. `check` is called meanwhile, and may throw.
 * @throws OUTPUT_CLOSED if there is no reader any more, and system errors
 */
export function writeFully(descriptor: number, chunk: Uint8Array, check?: () => void): void {
  for (let done = 0; done < chunk.length; ) {
    const written = writePart(descriptor, chunk, done)
    done += written
    if (written > 0) continue
    // The reader of a pipe is slower than we are.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, WAIT_MS)
    check?.()
  }
}

/** Writes what the descriptor takes now; returns 0 if it is full. */
function writePart(descriptor: number, chunk: Uint8Array, offset: number): number {
  try {
    return writeSync(descriptor, chunk, offset)
  } catch (error) {
    if (isErrno(error, 'EAGAIN')) return 0
    if (!isErrno(error, 'EPIPE')) throw toLoamError(error, `write ${nameOf(descriptor)}`)
    throw new LoamError('OUTPUT_CLOSED', `write ${nameOf(descriptor)}: the reader closed it`, {
      cause: error,
    })
  }
}

function nameOf(descriptor: number): string {
  return descriptor === STDOUT ? 'standard output' : `descriptor ${descriptor}`
}

function bytesOf(text: string | Uint8Array): Uint8Array {
  return typeof text === 'string' ? Buffer.from(text) : text
}

/** Writes a text or bytes to standard output. @throws as `writeFully` */
export function writeStandardOutput(text: string | Uint8Array): void {
  writeFully(STDOUT, bytesOf(text))
}

/** Writes a text to standard error. A failure is ignored, because there is nowhere to report it. */
export function writeStandardError(text: string | Uint8Array): void {
  try {
    writeFully(STDERR, bytesOf(text))
  } catch (error) {
    if (!(error instanceof LoamError)) throw error
  }
}
