import { closeSync, constants, fstatSync, ftruncateSync, openSync } from 'node:fs'
import { libc, O_CLOEXEC, viewMemory } from './libc.ts'

const PROT_READ_WRITE = 3
const MAP_SHARED = 1

/**
 * A file in memory: what is written to `bytes` is in the file at once and for every process that has mapped it, also if this one is killed.
 * It stays mapped until the process or the thread ends.
 */
export class MappedFile {
  readonly bytes: Buffer
  /** Whether the file was there, with this size. */
  readonly existed: boolean
  readonly #address: number

  /** Opens or creates a file of this size. @throws system errors */
  constructor(path: string, sizeBytes: number) {
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | O_CLOEXEC, 0o600)
    try {
      this.existed = fstatSync(fd).size === sizeBytes
      if (!this.existed) {
        ftruncateSync(fd, 0)
        ftruncateSync(fd, sizeBytes)
      }
      // A full disk must fail here, and not as SIGBUS when the memory is used.
      libc().fallocate(fd, 0, 0, sizeBytes)
      this.#address = libc().mmap(null, sizeBytes, PROT_READ_WRITE, MAP_SHARED, fd, 0)
      this.bytes = viewMemory(this.#address, sizeBytes)
    } finally {
      closeSync(fd)
    }
  }

  /** Reads from a descriptor into the file, by one read(2); waits as long as that does. Returns the number of bytes. @throws system errors */
  readFrom(fd: number, at: number, lengthBytes: number): number {
    return libc().readInto(fd, this.#address + at, lengthBytes)
  }
}
