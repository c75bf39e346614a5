import { createHash } from 'node:crypto'
import { closeSync, constants, fstatSync, fsyncSync, openSync, readSync, statSync } from 'node:fs'
import {
  deviceTag,
  type ErofsDevice,
  type ErofsOptions,
  readLayerImage,
  type ReadAt,
  writeErofs,
} from '../erofs/index.ts'
import { LoamError } from '../errors/index.ts'
import { type Digest, type DigestAlgorithm, finishDigest, splitDigest } from '../image/index.ts'
import { openRegular, type OutputTarget, writeFully } from '../linux/index.ts'
import type { FileTree } from '../tree/index.ts'
import { countBytes, setTotalBytes } from '../activity/index.ts'
import { TarReaders } from './layer-data.ts'
import type { LayerTar } from './layer-files.ts'

const WINDOW_BYTES = 64 << 10
const MAX_WINDOWS = 16
const HASH_BYTES = 1 << 20

export interface ImageFileOptions extends WriteFileOptions {
  readonly contents: ErofsOptions['contents']
  readonly data: ErofsOptions['data']
  readonly uuid?: Buffer | undefined
  /** By the layer numbers of the tree. */
  readonly layers: readonly LayerTar[]
}

/** Writes a tree as an EROFS image to a new file, with the layers' tars as its devices. @throws EROFS_INVALID and system errors */
export function writeImageFile(tree: FileTree, path: OutputTarget, options: ImageFileOptions): void {
  using tars = new TarReaders(options.layers)
  const produce = (write: (chunk: Buffer) => void) => {
    writeErofs(tree, {
      contents: options.contents,
      data: options.data,
      uuid: options.uuid,
      layers: options.layers.map(
        ({ diffId, tarPath, tarBytes }): ErofsDevice => ({
          tag: deviceTag(diffId),
          sizeBytes: tarBytes ?? statSync(tarPath).size,
        }),
      ),
      readData: tars.read,
      write,
    })
  }
  writeFile(path, produce, options)
}

/** Returns the digest of a file. @throws LAYER_DAMAGED for anything but a regular file, CANCELED and system errors */
export function hashFile(path: string, algorithm: DigestAlgorithm, canceled: Int32Array): Digest {
  const hash = createHash(algorithm)
  const window = Buffer.alloc(HASH_BYTES)
  const fd = openRegular(path, 'LAYER_DAMAGED')
  try {
    setTotalBytes(canceled, fstatSync(fd).size)
    for (let length = -1; length !== 0; ) {
      length = readSync(fd, window)
      hash.update(window.subarray(0, length))
      countBytes(canceled, length)
      checkCanceled(canceled, path)
    }
  } finally {
    closeSync(fd)
  }
  return finishDigest(algorithm, hash)
}

/** Copies a file. @throws LAYER_DAMAGED when it has another digest than it should, CANCELED and system errors */
export function copyFile(
  {
    path,
    digest,
    target,
  }: { readonly path: string; readonly digest: Digest | undefined; readonly target: OutputTarget },
  canceled: Int32Array,
): void {
  const algorithm = digest === undefined ? 'sha256' : splitDigest(digest).algorithm
  const hash = createHash(algorithm)
  const produce = (write: (chunk: Buffer) => void) => {
    const window = Buffer.alloc(HASH_BYTES)
    const fd = openRegular(path, 'LAYER_DAMAGED')
    setTotalBytes(canceled, fstatSync(fd).size)
    try {
      for (let length = readSync(fd, window); length !== 0; length = readSync(fd, window)) {
        const chunk = window.subarray(0, length)
        hash.update(chunk)
        write(chunk)
      }
    } finally {
      closeSync(fd)
    }
    if (digest === undefined || finishDigest(algorithm, hash) === digest) return
    throw new LoamError('LAYER_DAMAGED', `read ${path}: its digest is not ${digest}`, {
      hint: '`loam fsck --repair` refetches it.',
    })
  }
  writeFile(target, produce, { as: 'export', canceled })
}

/** Ends the work when the caller has canceled it. @throws CANCELED */
export function checkCanceled(canceled: Int32Array, target: OutputTarget): void {
  if (Atomics.load(canceled, 0) !== 0) throw new LoamError('CANCELED', `write ${target}: canceled`)
}

/** Options of writing a file. */
export interface WriteFileOptions {
  /**
   * `cached` is a file of the store that waits for no disk; `export` is on the disk when it is made.
   * A descriptor is written to directly.
   */
  readonly as: 'cached' | 'export'
  /** Not zero when the work is to stop. */
  readonly canceled?: Int32Array | undefined
}

const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL

/** Writes the output of `produce` to a new file or to a descriptor. On failure an incomplete file may be left. @throws CANCELED, OUTPUT_CLOSED and system errors */
export function writeFile(
  target: OutputTarget,
  produce: (write: (chunk: Buffer) => void) => void,
  { as, canceled }: WriteFileOptions,
): void {
  const check = () => {
    if (canceled !== undefined) checkCanceled(canceled, target)
  }
  const isStream = typeof target === 'number'
  const fd = isStream ? target : openSync(target, NEW_FILE, 0o600)
  try {
    produce((chunk) => {
      check()
      writeFully(fd, chunk, check)
      countBytes(canceled, chunk.length)
    })
    if (as === 'export' && !isStream) fsyncSync(fd)
  } finally {
    if (!isStream) closeSync(fd)
  }
}

/** Reads the tree of a layer from its index. @throws EROFS_INVALID and system errors */
export function readMetaImage(path: string): FileTree {
  using file = new WindowedFile(path)
  return readLayerImage(file.readAt, file.sizeBytes)
}

/** A file that is read in pieces, the last of which are kept: directories and inodes lie in two places, and are read by turns. */
class WindowedFile implements Disposable {
  readonly sizeBytes: number
  readonly readAt: ReadAt
  readonly #fd: number
  /** By their number; the one that was used last is the last. */
  readonly #windows = new Map<number, Buffer>()

  constructor(path: string) {
    this.#fd = openRegular(path, 'LAYER_DAMAGED')
    this.sizeBytes = fstatSync(this.#fd).size
    this.readAt = (position, length) => this.#read(position, length)
  }

  #read(position: number, length: number): Buffer {
    const number = Math.floor(position / WINDOW_BYTES)
    const at = position - number * WINDOW_BYTES
    if (at + length > WINDOW_BYTES) return this.#load(position, length)
    return this.#window(number).subarray(at, at + length)
  }

  #window(number: number): Buffer {
    const known = this.#windows.get(number)
    this.#windows.delete(number)
    // Earlier results stay valid: a dropped window is not reused.
    const window = known ?? this.#load(number * WINDOW_BYTES, WINDOW_BYTES)
    this.#windows.set(number, window)
    const [oldest] = this.#windows.keys()
    if (this.#windows.size > MAX_WINDOWS && oldest !== undefined) this.#windows.delete(oldest)
    return window
  }

  #load(position: number, length: number): Buffer {
    const bytes = Buffer.allocUnsafe(Math.max(0, Math.min(length, this.sizeBytes - position)))
    return bytes.subarray(0, readSync(this.#fd, bytes, 0, bytes.length, position))
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }
}
