import { closeSync, constants, mkdtempSync, openSync, rmSync } from 'node:fs'
import { Socket } from 'node:net'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { AT_FDCWD, libc } from './libc.ts'

/** sys/stat.h */
const S_IFIFO = 0o010000

/** A pipe with both ends in this process: data written to a descriptor, also by another thread, is read as a stream. */
export interface Pipe {
  /** Descriptor to write to; it does not block. */
  readonly writer: number
  /** The other end. It ends when the writer is closed. */
  readonly output: Readable
  /** Closes the writer. Call it once, when nothing writes any more: the number may then be another file's. */
  readonly closeWriter: () => void
}

/** Creates a pipe; `folder` has its name for a moment. @throws system errors */
export function createPipe(folder: string): Pipe {
  const place = mkdtempSync(join(folder, 'pipe-'))
  try {
    const path = join(place, 'pipe')
    libc().mknodat(AT_FDCWD, path, S_IFIFO | 0o600, 0n)
    // Node has no pipe(2). The reader comes first: a named pipe without one cannot be opened for writing.
    const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
    const writer = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK)
    const output = new Socket({ fd: reader, readable: true, writable: false })
    return {
      writer,
      output,
      closeWriter: () => {
        closeSync(writer)
      },
    }
  } finally {
    rmSync(place, { recursive: true })
  }
}
