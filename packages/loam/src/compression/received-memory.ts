/*
 * Memory that sockets are read into. Node allocates 64 KiB for each read: that, and the garbage collector, took four fifths of the processor time of
 * receiving a blob. Here a read gets the rest of a slab, and a slab is used again when all that was read into it has been released. What is never
 * released, such as a document, belongs to the garbage collector, with its slab.
 */
import type { OnReadOpts, Socket } from 'node:net'

const SLAB_BYTES = 256 << 10
/** A slab with less room is full. */
const MIN_READ_BYTES = 32 << 10
/** Slabs that are kept for the next reads. */
const MAX_FREE = 16

class Slab {
  readonly memory = Buffer.allocUnsafeSlow(SLAB_BYTES)
  /** Bytes that were read and not released. */
  heldBytes = 0
  isFull = false
}

const slabs = new WeakMap<ArrayBufferLike, Slab>()
const free: Slab[] = []

/** Returns an option of a socket by which it reads into slabs. Sockets may share it. */
export function readIntoSlabs(): OnReadOpts {
  // Of the socket that has just been read: Node asks for it right after the callback.
  let rest: Buffer | undefined
  return {
    buffer: () => {
      const next = rest ?? takeSlab()
      rest = undefined
      return next
    },
    // Node calls it as a method of the socket.
    callback(this: Socket, bytes: number, { buffer, byteOffset }: Uint8Array) {
      const slab = slabs.get(buffer)
      if (slab !== undefined) slab.heldBytes += bytes
      const goesOn = this.push(Buffer.from(buffer, byteOffset, bytes))
      if (slab !== undefined) rest = restOf(slab, byteOffset + bytes)
      return goesOn
    },
  }
}

/** Returns whether a chunk was read into a slab, and releases it: its memory must not be used any more. Release each chunk once. */
export function releaseReceived(chunk: Buffer): boolean {
  const slab = slabs.get(chunk.buffer)
  if (slab === undefined) return false
  slab.heldBytes -= chunk.length
  recycle(slab)
  return true
}

function takeSlab(): Buffer {
  const slab = free.pop() ?? new Slab()
  slabs.set(slab.memory.buffer, slab)
  return slab.memory
}

function restOf(slab: Slab, usedBytes: number): Buffer | undefined {
  if (SLAB_BYTES - usedBytes >= MIN_READ_BYTES) return slab.memory.subarray(usedBytes)
  slab.isFull = true
  recycle(slab)
  return undefined
}

function recycle(slab: Slab): void {
  if (!slab.isFull || slab.heldBytes > 0) return
  slab.isFull = false
  if (free.length < MAX_FREE) free.push(slab)
}
