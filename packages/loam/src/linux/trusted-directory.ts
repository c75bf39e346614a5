import { closeSync, constants, fstatSync, mkdirSync, openSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { isErrno, LoamError } from '../errors/index.ts'
import { O_CLOEXEC } from './libc.ts'
import { whyUntrusted } from './trusted-path.ts'

const OPEN_DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW | O_CLOEXEC

/**
 * A directory that only root or this user may change, reached through descriptors of directories of which the same is true: so nobody else can
 * put another file in the place of what was checked, and no symlink is followed.
 */
export class TrustedDirectory implements Disposable {
  /** For messages. */
  readonly path: string
  readonly #fd: number

  private constructor(path: string, fd: number) {
    this.path = path
    this.#fd = fd
  }

  /**
   * Opens an absolute path without symlinks; what is missing of it is created with mode 0700. Others may write to a directory above it if that
   * is sticky, as /tmp is. @throws STORE_UNSAFE if others may change it, or a part is not a directory; system errors
   */
  static open(path: string): TrustedDirectory {
    return TrustedDirectory.#walk(path, true)
  }

  /** The same for a directory that may be missing, and is not created: then returns undefined. @throws as `open` */
  static find(path: string): TrustedDirectory | undefined {
    try {
      return TrustedDirectory.#walk(path, false)
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return undefined
      throw error
    }
  }

  static #walk(path: string, create: boolean): TrustedDirectory {
    const names = path.split('/').filter((name) => name !== '')
    let current = new TrustedDirectory('/', openSync('/', OPEN_DIRECTORY))
    for (const name of names) {
      using above = current
      above.#requireTrusted(true)
      current = above.#open(name, create)
    }
    return current.#trusted()
  }

  /** Opens a directory in this one, created if it is missing. @throws as `open` */
  enter(name: string): TrustedDirectory {
    return this.#open(name, true).#trusted()
  }

  /** Returns a path to a name in this directory, which holds while this is open. */
  at(name: string): string {
    return `/proc/self/fd/${this.#fd}/${name}`
  }

  /** Lists the names in it. */
  list(): string[] {
    return readdirSync(this.at('.'))
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }

  #open(name: string, create: boolean): TrustedDirectory {
    const path = join(this.path, name)
    try {
      const fd = create ? this.#openOrMake(name) : openSync(this.at(name), OPEN_DIRECTORY)
      return new TrustedDirectory(path, fd)
    } catch (error) {
      if (isErrno(error, 'ENOTDIR', 'ELOOP')) throw unsafe(path, 'it is a symlink or another kind of file')
      throw error
    }
  }

  #openOrMake(name: string): number {
    const path = this.at(name)
    try {
      return openSync(path, OPEN_DIRECTORY)
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error
    }
    mkdirSync(path, { mode: 0o700 })
    return openSync(path, OPEN_DIRECTORY)
  }

  #trusted(): this {
    try {
      this.#requireTrusted(false)
      return this
    } catch (error) {
      this[Symbol.dispose]()
      throw error
    }
  }

  #requireTrusted(isAbove: boolean): void {
    const why = whyUntrusted('it', fstatSync(this.#fd), isAbove)
    if (why !== undefined) throw unsafe(this.path, why)
  }
}

function unsafe(path: string, reason: string): LoamError {
  return new LoamError('STORE_UNSAFE', `open directory ${path}: ${reason}`, {
    hint: 'Only root and the user of Loam may be able to write to it and to all directories above it.',
  })
}
