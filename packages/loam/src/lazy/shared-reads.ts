/*
 * What the event thread shares with the main thread. Everything is in shared memory, because the event thread waits in read(2), where no message
 * reaches it; messages are for the case that a read has to wait.
 */
import type { MessagePort } from 'node:worker_threads'
import { JOURNAL_SLOTS } from './journal.ts'

/** Numbers of descriptors that are looked at; the limit of descriptors is lower. */
export const MAX_DESCRIPTORS = 1 << 14

/** Places of the counters. */
export const COUNTER = {
  /** Grows with each message about layers, so that the event thread looks for it. */
  layers: 0,
  /** Grows with each slot that is free again; the event thread waits for it when there is none. */
  released: 1,
  events: 2,
  misses: 3,
  /** Reads that the kernel has refused, because there was no descriptor for them. */
  refused: 4,
} as const

export interface SharedReads {
  readonly counters: Int32Array<SharedArrayBuffer>
  /** 1 for slots of the journal whose reads wait in the main thread. */
  readonly usedSlots: Uint8Array<SharedArrayBuffer>
  /** 1 for numbers under which reads of an earlier process wait: the kernel gives an answer to the oldest of a number. */
  readonly heldNumbers: Uint8Array<SharedArrayBuffer>
}

/** A layer whose reads are answered. */
export interface SharedLayer {
  readonly inode: number
  readonly tarStarts: Float64Array<SharedArrayBuffer>
  /** 1 for spans that are here. */
  readonly present: Uint8Array<SharedArrayBuffer>
}

export type LayerMessage = { readonly add: SharedLayer } | { readonly remove: number }

/** A read that has to wait, or of a file that the event thread does not know. */
export interface MissedRead {
  readonly slot: number
  readonly turn: number
  readonly fd: number
  readonly inode: number
  /** The process that reads; 0: not known. */
  readonly pid: number
  readonly offset: number
  readonly count: number
}

export interface EventThreadData {
  readonly group: number
  readonly journal: string
  readonly firstTurn: number
  /** Slots of the journal that are used: reads that wait at once. */
  readonly slots: number
  readonly shared: SharedReads
  readonly layers: MessagePort
}

export function createSharedReads(): SharedReads {
  return {
    counters: new Int32Array(new SharedArrayBuffer(4 * Object.keys(COUNTER).length)),
    usedSlots: new Uint8Array(new SharedArrayBuffer(JOURNAL_SLOTS)),
    heldNumbers: new Uint8Array(new SharedArrayBuffer(MAX_DESCRIPTORS)),
  }
}

/** Returns the spans of a range of the tar: the first, and the one after the last. The range is cut at the end of the tar. */
export function spansOf(tarStarts: Float64Array, offset: number, count: number): readonly [number, number] {
  const last = Math.max(0, tarStarts.length - 2)
  const from = Math.min(spanAt(tarStarts, offset), last)
  return [from, Math.min(spanAt(tarStarts, offset + Math.max(1, count) - 1), last) + 1]
}

/** The last span that begins at or before a place. */
function spanAt(tarStarts: Float64Array, place: number): number {
  let low = 0
  let high = tarStarts.length - 1
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if ((tarStarts[middle] ?? 0) <= place) low = middle
    else high = middle - 1
  }
  return low
}
