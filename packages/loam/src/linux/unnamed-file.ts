import { closeSync, constants, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { isErrno } from '../errors/index.ts'
import { AT_FDCWD, AT_SYMLINK_FOLLOW, libc } from './libc.ts'

const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY
const CREATE = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
/** A file system without files that have no name: NFS, FAT, some FUSE. */
const NO_UNNAMED = ['EOPNOTSUPP', 'ENOTSUP', 'EISDIR', 'ENOENT', 'EINVAL', 'ENOSYS']

/**
 * A file that gets its name when it is complete, so that no process that may write to its directory opens it before: a container could change a
 * file system while the kernel writes to it. Where files have to have names it has its own from the start.
 */
export class UnnamedFile implements Disposable {
  readonly fd: number
  readonly #name: string
  #isNamed: boolean

  private constructor(fd: number, name: string, isNamed: boolean) {
    this.fd = fd
    this.#name = name
    this.#isNamed = isNamed
  }

  /** Creates an empty file for its owner alone. `name`: the path that it gets, which must not exist. @throws system errors */
  static create(name: string): UnnamedFile {
    try {
      return new UnnamedFile(openSync(dirname(name), constants.O_RDWR | O_TMPFILE, 0o600), name, false)
    } catch (error) {
      if (!isErrno(error, ...NO_UNNAMED)) throw error
    }
    return new UnnamedFile(openSync(name, CREATE, 0o600), name, true)
  }

  /** Leads to it as long as it is open; for programs that get it as descriptor 3, that is `/proc/self/fd/3`. */
  get path(): string {
    return `/proc/self/fd/${this.fd}`
  }

  /** Gives it its name. @throws EEXIST and other system errors */
  giveName(): void {
    if (this.#isNamed) return
    try {
      libc().linkat(AT_FDCWD, this.path, AT_FDCWD, this.#name, AT_SYMLINK_FOLLOW)
    } catch (error) {
      if (error instanceof Error) error.message = error.message.replace(this.path, this.#name)
      throw error
    }
    this.#isNamed = true
  }

  [Symbol.dispose](): void {
    closeSync(this.fd)
  }
}
