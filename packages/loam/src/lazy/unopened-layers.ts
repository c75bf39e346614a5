import { fstatSync } from 'node:fs'
import type { DiffId } from '../image/index.ts'

/** The tar of a layer that an earlier handler has served. */
export interface UnopenedLayer {
  readonly diffId: DiffId
  /** Descriptor from before its mark. */
  readonly tarFd: number
  readonly inode: number
}

/**
 * Layers that an earlier handler has served and this one could not open yet, for example because the disk is full. They keep their marks and
 * descriptors, and their reads fail, until they can be opened: without them holes would be read as zeros.
 */
export class UnopenedLayers {
  readonly #layers = new Map<DiffId, UnopenedLayer>()

  add(diffId: DiffId, tarFd: number): void {
    this.#layers.set(diffId, { diffId, tarFd, inode: fstatSync(tarFd).ino })
  }

  find(diffId: DiffId): UnopenedLayer | undefined {
    return this.#layers.get(diffId)
  }

  /** The caller owns its descriptor from now on. */
  delete(diffId: DiffId): void {
    this.#layers.delete(diffId)
  }

  get all(): readonly UnopenedLayer[] {
    return [...this.#layers.values()]
  }

  get size(): number {
    return this.#layers.size
  }
}
