/*
 * The memory that a task shares with its caller, 24 bytes:
 *
 *   0   int32     not zero when the task is to stop
 *   8   float64   bytes that the task has read or written
 *   16  float64   all bytes that it is going to read or write; 0 while that is not known
 *
 * The task alone writes the numbers of bytes, and its caller reads them now and then.
 */

/** Size of the memory. */
export const SHARED_BYTES = 24

const numbers = ({ buffer }: Int32Array) =>
  buffer.byteLength < SHARED_BYTES ? undefined : new Float64Array(buffer, 8, 2)

/** Adds to the bytes that a task has read or written. */
export function countBytes(shared: Int32Array | undefined, bytes: number): void {
  const counts = shared === undefined ? undefined : numbers(shared)
  if (counts !== undefined) counts[0] = (counts[0] ?? 0) + bytes
}

/** Sets how many bytes a task is going to read or write. */
export function setTotalBytes(shared: Int32Array, bytes: number): void {
  const counts = numbers(shared)
  if (counts !== undefined) counts[1] = bytes
}

/** Returns what a task has counted. */
export function readCounts(shared: SharedArrayBuffer): { doneBytes: number; totalBytes: number | undefined } {
  const [doneBytes = 0, totalBytes = 0] = new Float64Array(shared, 8, 2)
  return { doneBytes, totalBytes: totalBytes === 0 ? undefined : totalBytes }
}
