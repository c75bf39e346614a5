/*
 * Copying a tar entry by entry, so that names change or entries are left out. One entry's headers and 1 MiB of data are in memory.
 */
import { closeSync, readSync } from 'node:fs'
import { LoamError } from '../errors/index.ts'
import { openInput } from '../linux/index.ts'
import {
  formatTarHeader,
  type TarEntry,
  type TarEntryInput,
  tarEnd,
  tarPadding,
  TarReader,
  TarScan,
} from '../tar/index.ts'

const WINDOW_BYTES = 1 << 20

/** Yields the bytes of a new tar: each entry of a tar file as `change` returns it, with its data. @throws TAR_INVALID, and the errors of `change` */
export async function* copyTar(
  tarPath: string,
  change: (entry: TarEntry) => TarEntryInput | undefined,
): AsyncGenerator<Buffer> {
  const fd = openInput(tarPath)
  try {
    for (const entry of readEntries(fd)) {
      const changed = change(entry)
      if (changed === undefined) continue
      yield formatTarHeader(changed)
      if (changed.type === 'file') yield* readData(fd, tarPath, entry)
    }
    yield tarEnd()
  } finally {
    closeSync(fd)
  }
}

/** Yields the entries of a tar, and seeks over data. */
function* readEntries(fd: number): Generator<TarEntry> {
  const ready: TarEntry[] = []
  const scan = new TarScan(new TarReader((entry) => ready.push(entry)))
  const { window } = scan
  while (scan.take(readSync(fd, window, 0, window.length, scan.position))) yield* ready.splice(0)
  yield* ready
}

function* readData(fd: number, tarPath: string, entry: TarEntry): Generator<Buffer> {
  const segments = entry.sparse ?? [{ offset: 0, length: entry.sizeBytes }]
  let written = 0
  let stored = entry.dataOffset
  for (const { offset, length } of segments) {
    yield* zeros(offset - written)
    for (let done = 0; done < length; ) {
      // The caller may keep the chunk, so that it is not reused.
      const chunk = Buffer.alloc(Math.min(WINDOW_BYTES, length - done))
      const read = readSync(fd, chunk, 0, chunk.length, stored)
      if (read === 0) throw new LoamError('TAR_INVALID', `read ${tarPath}: it is cut off`)
      yield chunk.subarray(0, read)
      done += read
      stored += read
    }
    written = offset + length
  }
  yield* zeros(entry.sizeBytes - written)
  yield tarPadding(entry.sizeBytes)
}

function* zeros(bytes: number): Generator<Buffer> {
  for (let left = bytes; left > 0; left -= WINDOW_BYTES) yield Buffer.alloc(Math.min(left, WINDOW_BYTES))
}
