// Reads the content of files from the tars of their layers: by offset to write an image or a tar, whole to write files.
import { closeSync, ftruncateSync, readSync, writeSync } from 'node:fs'
import { LoamError } from '../errors/index.ts'
import { openRegular } from '../linux/index.ts'
import type { LayerFiles, LayerTar } from './layer-files.ts'

const WINDOW_BYTES = 1 << 20

/** The tars of layers, opened when they are read. */
export class TarReaders implements Disposable {
  readonly #layers: readonly Pick<LayerTar, 'tarPath'>[]
  readonly #fds = new Map<number, number>()

  constructor(layers: readonly Pick<LayerTar, 'tarPath'>[]) {
    this.#layers = layers
  }

  /** Fills `target` with the bytes at an offset of a layer's tar. @throws LAYER_DAMAGED when it is too short */
  readonly read = (layer: number, offset: number, target: Buffer): void => {
    const tarPath = this.#layers[layer]?.tarPath ?? ''
    const fd = this.#fds.get(layer) ?? openRegular(tarPath, 'LAYER_DAMAGED')
    this.#fds.set(layer, fd)
    for (let done = 0; done < target.length; ) {
      const length = readSync(fd, target, done, target.length - done, offset + done)
      if (length === 0)
        throw new LoamError('LAYER_DAMAGED', `read ${tarPath}: it ends before ${offset + target.length}`)
      done += length
    }
  };

  [Symbol.dispose](): void {
    for (const fd of this.#fds.values()) closeSync(fd)
  }
}

/** The data of files, read from the layers' tars. Entries come in the tars' order, so one window serves many small files. */
export class FileData implements Disposable {
  readonly #layers: readonly LayerFiles[]
  readonly #fds = new Map<number, number>()
  readonly #window = Buffer.alloc(WINDOW_BYTES)
  #windowLayer = -1
  #windowStart = 0
  #windowLength = 0

  constructor(layers: readonly LayerFiles[]) {
    this.#layers = layers
  }

  /** Writes a file's data into a new, empty file; holes stay holes. */
  copy(
    fd: number,
    data: { layer: number; sizeBytes: number; offset: number; segments: Float64Array | undefined },
  ): void {
    if (data.segments === undefined) {
      this.#copyRange(fd, data.layer, data.offset, { start: 0, bytes: data.sizeBytes })
      return
    }
    ftruncateSync(fd, data.sizeBytes)
    let offset = data.offset
    for (let index = 0; index < data.segments.length; index += 2) {
      const [start = 0, bytes = 0] = data.segments.subarray(index, index + 2)
      this.#copyRange(fd, data.layer, offset, { start, bytes })
      offset += bytes
    }
  }

  #copyRange(fd: number, layer: number, offset: number, to: { start: number; bytes: number }): void {
    let done = 0
    while (done < to.bytes) {
      const part = this.#read(layer, offset + done, to.bytes - done)
      let written = 0
      while (written < part.length) {
        written += writeSync(fd, part, written, part.length - written, to.start + done + written)
      }
      done += part.length
    }
  }

  /** Returns a view of at least one and at most `bytes` bytes. */
  #read(layer: number, offset: number, bytes: number): Buffer {
    const isInWindow =
      layer === this.#windowLayer &&
      offset >= this.#windowStart &&
      offset < this.#windowStart + this.#windowLength
    if (!isInWindow) {
      this.#windowLength = readSync(this.#open(layer), this.#window, 0, WINDOW_BYTES, offset)
      this.#windowLayer = layer
      this.#windowStart = offset
      if (this.#windowLength === 0) {
        throw new LoamError(
          'LAYER_DAMAGED',
          `read ${this.#layers[layer]?.tarPath ?? ''}: it ends before byte ${offset}`,
          {
            hint: '`loam pull` refetches the layer.',
          },
        )
      }
    }
    const start = offset - this.#windowStart
    return this.#window.subarray(start, Math.min(start + bytes, this.#windowLength))
  }

  #open(layer: number): number {
    const known = this.#fds.get(layer)
    if (known !== undefined) return known
    const path = this.#layers[layer]?.tarPath ?? ''
    const fd = openRegular(path, 'LAYER_DAMAGED')
    // The tars of many layers are read one after the other: a few open ones are enough.
    if (this.#fds.size >= 16) this[Symbol.dispose]()
    this.#fds.set(layer, fd)
    return fd
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds.values()) closeSync(fd)
    this.#fds.clear()
  }
}
