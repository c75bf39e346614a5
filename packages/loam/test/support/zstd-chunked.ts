// Blobs of zstd:chunked, as containers/storage writes them: each chunk of a file is a frame, and so is what is between files.
import { zstdCompressSync } from 'node:zlib'
import { digestOf } from '../../src/image/index.ts'
import { TarReader } from '../../src/tar/index.ts'

/** Type of the TOC. */
const CRFS = '1'

export interface ChunkedBlob {
  readonly blob: Buffer
  readonly annotations: Record<string, string>
}

/** Packs a tar without sparse files. */
export function packChunked(tar: Buffer, chunkBytes: number): ChunkedBlob {
  const frames: Buffer[] = []
  let blobBytes = 0
  const addFrame = (plain: Buffer): number => {
    const start = blobBytes
    const frame = zstdCompressSync(plain)
    frames.push(frame)
    blobBytes += frame.length
    return start
  }
  const entries: object[] = []
  const lines: object[] = []
  let at = 0
  const addGap = (end: number) => {
    if (end > at) addFrame(tar.subarray(at, end))
    for (; at < end; at += 512)
      lines.push({
        type: 2,
        payload: tar.toString('base64', at, Math.min(end, at + 512)),
        position: lines.length,
      })
    at = end
  }
  for (const { name, sizeBytes, offset, type } of filesOf(tar)) {
    if (sizeBytes === 0) {
      entries.push({ type, name })
      continue
    }
    addGap(offset)
    lines.push({ type: 1, name, size: sizeBytes, payload: 'AAAAAAAAAAA=', position: lines.length })
    const chunks: { offset: number; chunkOffset: number; chunkSize: number; chunkDigest: string }[] = []
    for (let from = 0; from < sizeBytes; from += chunkBytes) {
      const plain = tar.subarray(offset + from, offset + Math.min(sizeBytes, from + chunkBytes))
      chunks.push({
        offset: addFrame(plain),
        chunkOffset: from,
        chunkSize: plain.length,
        chunkDigest: digestOf(plain),
      })
    }
    at = offset + sizeBytes
    const [first, ...others] = chunks
    const whole = {
      type,
      name,
      size: sizeBytes,
      digest: digestOf(tar.subarray(offset, at)),
      endOffset: blobBytes,
    }
    entries.push(others.length === 0 ? { ...whole, offset: first?.offset } : { ...whole, ...first })
    for (const chunk of others) entries.push({ type: 'chunk', name, ...chunk })
  }
  addGap(tar.length)
  return finish(frames, entries, lines)
}

function filesOf(tar: Buffer): { name: string; sizeBytes: number; offset: number; type: string }[] {
  const files: { name: string; sizeBytes: number; offset: number; type: string }[] = []
  const reader = new TarReader((entry) => {
    const isFile = entry.type === 'file'
    const sizeBytes = isFile ? entry.sizeBytes : 0
    files.push({
      name: entry.name.toString(),
      sizeBytes,
      offset: entry.dataOffset,
      type: isFile ? 'reg' : entry.type,
    })
  })
  reader.write(tar)
  reader.end()
  return files
}

function finish(
  frames: readonly Buffer[],
  entries: readonly object[],
  lines: readonly object[],
): ChunkedBlob {
  const tarSplitText = Buffer.from(lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
  const tarSplit = zstdCompressSync(tarSplitText)
  const tocText = Buffer.from(JSON.stringify({ version: 1, entries, tarSplitDigest: digestOf(tarSplit) }))
  const toc = zstdCompressSync(tocText)
  const tocStart = frames.reduce((sum, frame) => sum + frame.length, 0) + 8
  const tarSplitStart = tocStart + toc.length + 8
  const blob = Buffer.concat([...frames, skippable(toc), skippable(tarSplit), skippable(Buffer.alloc(64))])
  const prefix = 'io.github.containers.zstd-chunked.'
  const annotations = {
    [`${prefix}manifest-position`]: `${tocStart}:${toc.length}:${tocText.length}:${CRFS}`,
    [`${prefix}manifest-checksum`]: digestOf(toc),
    [`${prefix}tarsplit-position`]: `${tarSplitStart}:${tarSplit.length}:${tarSplitText.length}`,
  }
  return { blob, annotations }
}

function skippable(bytes: Buffer): Buffer {
  const head = Buffer.from('502a4d1800000000', 'hex')
  head.writeUInt32LE(bytes.length, 4)
  return Buffer.concat([head, bytes])
}
