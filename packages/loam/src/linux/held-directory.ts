import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  type Stats,
} from 'node:fs'
import { join } from 'node:path'
import { isErrno, LoamError } from '../errors/index.ts'
import { O_PATH } from './libc.ts'

/** It may be one that this user may search and not list. */
const OPEN_DIRECTORY = O_PATH | constants.O_DIRECTORY
const FOLLOW_NONE = constants.O_NOFOLLOW

/** A file of any kind that is held by its descriptor; of a symlink, the link itself. */
export interface HeldFile extends Disposable {
  readonly stats: Stats
  /** Leads to this file, whatever has its name by now, as long as it is held. */
  readonly path: string
}

/**
 * A directory that is held by its descriptor. Names in it are reached through that: whoever may rename and replace what is at its path changes nothing
 * of where they lead. A last name may still be a symlink that somebody put there: create with O_EXCL, and open with O_NOFOLLOW.
 */
export class HeldDirectory implements Disposable {
  /** For messages. */
  readonly shown: string
  /** Leads to it as long as it is held. */
  readonly path: string
  readonly #fd: number

  private constructor(shown: string, fd: number) {
    this.shown = shown
    this.path = `/proc/self/fd/${fd}`
    this.#fd = fd
  }

  /** Opens a directory by its path, in which symlinks are followed. @throws system errors */
  static open(path: string): HeldDirectory {
    return new HeldDirectory(path, openSync(path, OPEN_DIRECTORY))
  }

  /**
   * Opens what is at a path with a slash or a dot at its end, which says that a symlink before that is to be followed; undefined for any other path, and if
   * nothing is there. @throws system errors
   */
  static openFollowed(path: string): HeldDirectory | undefined {
    return /\/\.?$/.test(path) && existsSync(path) ? HeldDirectory.open(path) : undefined
  }

  /** Opens a directory in this one. @throws USAGE for a symlink and another kind of file, and system errors */
  enter(name: string): HeldDirectory {
    const shown = join(this.shown, name)
    try {
      return new HeldDirectory(shown, openSync(this.at(name), OPEN_DIRECTORY | FOLLOW_NONE))
    } catch (error) {
      if (!isErrno(error, 'ENOTDIR', 'ELOOP')) throw error
      throw new LoamError('USAGE', `open directory ${shown}: it is a symlink or another kind of file`, {
        cause: error,
        hint: 'Symlinks are followed there only at the end of a path with a slash: end the path with one, or name the directory itself.',
      })
    }
  }

  /** Creates a directory in this one that is for its owner alone, and opens it. @throws EEXIST, and as `enter` */
  make(name: string): HeldDirectory {
    mkdirSync(this.at(name), { mode: 0o700 })
    return this.enter(name)
  }

  /** Opens a directory in this one, which is created with a mode if it does not exist. Returns also whether it is new. @throws as `enter` */
  enterOrMake(name: string, mode: number): readonly [directory: HeldDirectory, isNew: boolean] {
    let isNew = true
    try {
      mkdirSync(this.at(name), { mode })
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error
      isNew = false
    }
    return [this.enter(name), isNew]
  }

  /** Returns a path to a name in this directory, which leads there as long as this is held. */
  at(name: string): string {
    return `${this.path}/${name}`
  }

  /** Lists the names in it. */
  list(): string[] {
    return readdirSync(this.path)
  }

  get stats(): Stats {
    return fstatSync(this.#fd)
  }

  /** Opens what has a name, without reading it; undefined if nothing has it. @throws system errors */
  find(name: string): HeldFile | undefined {
    try {
      const fd = openSync(this.at(name), O_PATH | FOLLOW_NONE)
      return {
        stats: fstatSync(fd),
        path: `/proc/self/fd/${fd}`,
        [Symbol.dispose]: () => {
          closeSync(fd)
        },
      }
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return undefined
      throw error
    }
  }

  /** Returns whether a name is that of a file or directory which is held. */
  has(name: string, { stats }: Pick<HeldFile, 'stats'>): boolean {
    const found = lstatSync(this.at(name), { throwIfNoEntry: false })
    return found !== undefined && found.ino === stats.ino && found.dev === stats.dev
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }
}

/** Returns an error with the names of directories in the place of the paths of their descriptors. They are held still. */
export function showHeld(
  error: LoamError,
  directories: readonly Pick<HeldDirectory, 'path' | 'shown'>[],
): LoamError {
  const show = (text: string) =>
    directories.reduce(
      (shown, held) => shown.replaceAll(new RegExp(`${held.path}(?!\\d)`, 'g'), () => held.shown),
      text,
    )
  const { path } = error.details
  const details = typeof path === 'string' ? { ...error.details, path: show(path) } : error.details
  if (show(error.message) === error.message && details === error.details) return error
  return new LoamError(error.code, show(error.message), { cause: error.cause, details, hint: error.hint })
}
