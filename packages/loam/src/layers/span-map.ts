/*
 * The file `layer.spans` of a partial layer: which spans of its tar are here. All of it is written at once when it is created, so that a full
 * disk does not stop the bookkeeping. Nothing is synced: a claim counts in the boot that made it, and later only after the span was hashed.
 *   0   8 bytes   "LOAMSPN1"
 *   8  36 bytes   id of the boot
 *  44   4 bytes   number of spans, little endian
 *  48             a byte for each span: 0 missing, 1 here, 2 claimed by an earlier boot
 */
import { closeSync, constants, ftruncateSync, openSync, writeSync } from 'node:fs'
import { isErrno } from '../errors/index.ts'
import { readStored } from '../linux/index.ts'

const MAGIC = 'LOAMSPN1'
const BOOT_AT = 8
const BOOT_BYTES = 36
const COUNT_AT = BOOT_AT + BOOT_BYTES
const HEAD_BYTES = COUNT_AT + 4

/** Whether a span is in the tar. A claim is of an earlier boot, and counts once the span has the digest that it has to have. */
export const SPAN_MISSING = 0
export const SPAN_HERE = 1
export const SPAN_CLAIMED = 2
export type SpanState = typeof SPAN_MISSING | typeof SPAN_HERE | typeof SPAN_CLAIMED

/** Returns the states of the spans of a partial layer, as this boot knows them; undefined if there is no map for so many spans. @throws LAYER_DAMAGED for anything but a file, system errors */
export function readSpanMap(path: string, count: number, bootId: string): Uint8Array | undefined {
  let bytes: Buffer
  try {
    bytes = readStored(path)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
  const isWhole = bytes.length === HEAD_BYTES + count && bytes.toString('latin1', 0, BOOT_AT) === MAGIC
  if (!isWhole || bytes.readUInt32LE(COUNT_AT) !== count) return undefined
  const states = Uint8Array.from(bytes.subarray(HEAD_BYTES))
  const isOfThisBoot = bytes.toString('latin1', BOOT_AT, COUNT_AT) === bootId
  return isOfThisBoot ? states : states.map((state) => (state === SPAN_MISSING ? SPAN_MISSING : SPAN_CLAIMED))
}

/**
 * Opens the map of a partial layer for changes in this boot, and creates it if there is none. Returns the states of the spans and the descriptor,
 * which the caller closes. @throws system errors, ENOSPC
 */
export function openSpanMap(
  path: string,
  count: number,
  bootId: string,
): { readonly states: Uint8Array; readonly fd: number } {
  const states = readSpanMap(path, count, bootId) ?? new Uint8Array(count)
  const head = Buffer.alloc(HEAD_BYTES)
  head.write(MAGIC, 0, 'latin1')
  head.write(bootId, BOOT_AT, BOOT_BYTES, 'latin1')
  head.writeUInt32LE(count, COUNT_AT)
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600)
  try {
    // In place: its blocks must stay its own, since a full disk has no others.
    writeSync(fd, Buffer.concat([head, states]), 0, HEAD_BYTES + count, 0)
    ftruncateSync(fd, HEAD_BYTES + count)
    return { states, fd }
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

/** Records the state of one span, after its data was written. @throws system errors */
export function recordSpan(fd: number, span: number, state: SpanState): void {
  writeSync(fd, Uint8Array.of(state), 0, 1, HEAD_BYTES + span)
}

/** Creates a map in which no span is here. @throws system errors, ENOSPC */
export function createSpanMap(path: string, count: number, bootId: string): void {
  closeSync(openSpanMap(path, count, bootId).fd)
}
