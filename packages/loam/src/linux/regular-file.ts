import {
  closeSync,
  createReadStream,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  type ReadStream,
  type Stats,
} from 'node:fs'
import { type ErrorCode, LoamError } from '../errors/index.ts'
import { O_PATH } from './libc.ts'
import { asCaller, type OpenFile } from './file-rights.ts'
import { reopenRegular } from './open-beneath.ts'

/** Major 1, minor 3 (Linux's devices.txt). */
const NULL_DEVICE = 0x103
const CHUNK_BYTES = 64 << 10
const MIN_CHUNK_BYTES = 1 << 10

/**
 * Opens a file for reading that a user or a document names. Any other kind of file is refused without being opened, even if it replaces
 * the file at this very moment: a named pipe would wait, and opening a device may do anything. @throws `code` for anything but a regular
 * file, and system errors
 */
export function openRegular(path: string, code: ErrorCode = 'SOURCE_INVALID'): number {
  return openWith((flags) => openSync(path, flags), path, code)
}

function openWith(open: OpenFile, path: string, code: ErrorCode): number {
  const place = open(O_PATH)
  try {
    return reopen(place, path, code).fd
  } finally {
    closeSync(place)
  }
}

function reopen(
  place: number,
  path: string,
  code: ErrorCode,
): { readonly fd: number; readonly stats: Stats } {
  const file = reopenRegular(place, path)
  if (file === undefined) throw notRegular(path, fstatSync(place), code)
  return file
}

/** Undefined for /dev/null, which need not be opened. */
function openUnlessNull(
  open: OpenFile,
  path: string,
  code: ErrorCode,
): { readonly fd: number; readonly stats: Stats } | undefined {
  const place = open(O_PATH)
  try {
    return fstatSync(place).rdev === NULL_DEVICE ? undefined : reopen(place, path, code)
  } finally {
    closeSync(place)
  }
}

/** Reads a file whole, as `openRegular`; /dev/null is an empty one. @throws also DOCUMENT_TOO_LARGE */
export function readRegular(path: string, maxBytes: number, code: ErrorCode = 'SOURCE_INVALID'): Buffer {
  return readWith((flags) => openSync(path, flags), path, maxBytes, code)
}

function readWith(open: OpenFile, path: string, maxBytes: number, code: ErrorCode): Buffer {
  const opened = openUnlessNull(open, path, code)
  if (opened === undefined) return Buffer.alloc(0)
  const { fd, stats } = opened
  try {
    const chunks: Buffer[] = []
    // One more byte finds the end. Files of the kernel have no size, and any file may grow.
    const chunkBytes = Math.min(Math.max(stats.size + 1, MIN_CHUNK_BYTES), CHUNK_BYTES)
    for (let bytes = 0; ; ) {
      const chunk = Buffer.allocUnsafe(chunkBytes)
      const length = readSync(fd, chunk)
      if (length === 0) return Buffer.concat(chunks)
      bytes += length
      if (bytes > maxBytes)
        throw new LoamError('DOCUMENT_TOO_LARGE', `read ${path}: it has more than ${maxBytes} bytes`)
      chunks.push(chunk.subarray(0, length))
    }
  } finally {
    closeSync(fd)
  }
}

/** Reads a file of the store whole, as `openRegular`. */
export function readStored(path: string, code: ErrorCode = 'LAYER_DAMAGED'): Buffer {
  const fd = openRegular(path, code)
  try {
    return readFileSync(fd)
  } finally {
    closeSync(fd)
  }
}

/** Streams a file of the store, as `openRegular`, which this function has done when it returns. */
export function streamStored(path: string): ReadStream {
  return createReadStream(path, { fd: openRegular(path, 'LAYER_DAMAGED') })
}

/** Opens a file that a caller names, as `openRegular`, with the rights of that caller. */
export function openInput(path: string): number {
  return asCaller(path, (open) => openWith(open, path, 'SOURCE_INVALID'))
}

/** Reads a file that a caller names, as `readRegular`, with the rights of that caller. */
export function readInput(path: string, maxBytes: number, code: ErrorCode = 'SOURCE_INVALID'): Buffer {
  return asCaller(path, (open) => readWith(open, path, maxBytes, code))
}

function notRegular(path: string, stats: Stats, code: ErrorCode): LoamError {
  return new LoamError(code, `read ${path}: it is ${kindOf(stats)}, expected a regular file`)
}

/** Names the kind of a file, for messages. */
export function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return 'a directory'
  if (stats.isFIFO()) return 'a named pipe'
  if (stats.isSocket()) return 'a socket'
  if (stats.isCharacterDevice() || stats.isBlockDevice()) return 'a device'
  return 'a file'
}
