import { closeSync, read } from 'node:fs'
import { promisify } from 'node:util'
import { openInput } from '../linux/index.ts'
import { type TarEntry, TarReader, TarScan } from '../tar/index.ts'

const readAsync = promisify(read)

/** Reads the headers of a tar file without blocking this thread, and seeks over data. @throws TAR_INVALID, LAYER_LIMIT, and the errors of `onEntry` */
export async function scanTarFile(tarPath: string, onEntry: (entry: TarEntry) => void): Promise<void> {
  const scan = new TarScan(new TarReader(onEntry))
  const fd = openInput(tarPath)
  try {
    const { window } = scan
    const readNext = async () => (await readAsync(fd, window, 0, window.length, scan.position)).bytesRead
    while (scan.take(await readNext()));
  } finally {
    closeSync(fd)
  }
}
