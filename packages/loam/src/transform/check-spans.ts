import { createHash } from 'node:crypto'
import { closeSync, readSync } from 'node:fs'
import { readLazyIndex } from '../lazy-index/index.ts'
import { openRegular, readStored } from '../linux/index.ts'
import type { CheckedSpans, LayerTask } from './layer-task.ts'
import { checkCanceled } from './image-file.ts'

const SUM_BYTES = 32

/** Hashes spans of the tar of a partial layer. @throws LAZY_INDEX_INVALID, CANCELED and system errors */
export function checkSpans(
  { indexPath, tarPath, spans, limits }: Extract<LayerTask, { kind: 'check-spans' }>,
  canceled: Int32Array,
): CheckedSpans {
  const { tarStarts, sums } = readLazyIndex(readStored(indexPath), limits).spans
  const wrong: number[] = []
  let hashedBytes = 0
  const fd = openRegular(tarPath, 'LAYER_DAMAGED')
  try {
    for (const span of spans) {
      checkCanceled(canceled, tarPath)
      const [from = 0, to = from] = [tarStarts[span], tarStarts[span + 1]]
      const bytes = readAt(fd, from, to - from)
      const sum = createHash('sha256').update(bytes).digest()
      hashedBytes += bytes.length
      if (!sum.equals(sums.subarray(span * SUM_BYTES, (span + 1) * SUM_BYTES))) wrong.push(span)
    }
  } finally {
    closeSync(fd)
  }
  return { wrong, hashedBytes }
}

/** Returns fewer bytes at the end of the file. */
function readAt(fd: number, position: number, length: number): Buffer {
  const bytes = Buffer.alloc(length)
  for (let at = 0; at < length; ) {
    const read = readSync(fd, bytes, at, length - at, position + at)
    if (read === 0) return bytes.subarray(0, at)
    at += read
  }
  return bytes
}
