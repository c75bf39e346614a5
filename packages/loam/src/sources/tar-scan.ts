import { closeSync, read } from 'node:fs'
import { promisify } from 'node:util'
import { openRegular } from '../linux/index.ts'
import { type TarEntry, TarReader } from '../tar/index.ts'

const WINDOW_BYTES = 64 << 10

const readAsync = promisify(read)

/** Reads the headers of a tar file, without holding this thread up; data are passed over by seeking. @throws TAR_INVALID, LAYER_LIMIT, and what `onEntry` throws */
export async function scanTarFile(tarPath: string, onEntry: (entry: TarEntry) => void): Promise<void> {
  const reader = new TarReader(onEntry)
  const fd = openRegular(tarPath)
  try {
    const window = Buffer.alloc(WINDOW_BYTES)
    let position = 0
    for (;;) {
      const { bytesRead: length } = await readAsync(fd, window, 0, WINDOW_BYTES, position)
      if (length === 0) break
      reader.write(window.subarray(0, length))
      position += length
      if (reader.skippableBytes === Number.POSITIVE_INFINITY) break
      // Reading on is cheaper than seeking over less than a window.
      if (reader.skippableBytes > WINDOW_BYTES) {
        const skipped = reader.skippableBytes
        position += skipped
        reader.skip(skipped)
      }
    }
    reader.end()
  } finally {
    closeSync(fd)
  }
}
