import { randomBytes } from 'node:crypto'
import { chmodSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import { LoamError, toLoamError } from '../errors/index.ts'
import { type HeldDirectory, type HeldFile, removeTree, showHeld } from '../linux/index.ts'

/** A directory for unfinished files in the directory of an output, which is held until this is disposed. */
export class PrivateFolder implements Disposable {
  readonly #parent: HeldDirectory
  readonly #name: string
  readonly #folder: HeldDirectory

  private constructor(parent: HeldDirectory, name: string, folder: HeldDirectory) {
    this.#parent = parent
    this.#name = name
    this.#folder = folder
  }

  /** Creates one. @throws system errors */
  static make(parent: HeldDirectory, output: string): PrivateFolder {
    const name = `${output}.loam-${process.pid}-${randomBytes(4).toString('hex')}`
    try {
      return new PrivateFolder(parent, name, parent.make(name))
    } catch (error) {
      throw showHeld(toLoamError(error, `write in ${parent.shown}`), [parent])
    }
  }

  get path(): string {
    return this.#folder.path
  }

  get shown(): string {
    return this.#folder.shown
  }

  at(name: string): string {
    return this.#folder.at(name)
  }

  list(): string[] {
    return this.#folder.list()
  }

  has(name: string, file: Pick<HeldFile, 'stats'>): boolean {
    return this.#folder.has(name, file)
  }

  /**
   * Sets the modes of a file in it, or of a directory with few others. Whoever may rename this folder may have put another one in its place when it was
   * made, with links to files of other owners: they stay as they are. @throws OUTPUT_EXISTS for them, and for other kinds of files
   */
  setModes(name: string, mode: number): void {
    setModes(this.#folder, name, { mode, uid: this.#folder.stats.uid })
  }

  /** Removes it with what is in it. Files of the user that are protected by flags stay there. @throws system errors */
  async discard(): Promise<void> {
    try {
      for (const name of this.list()) await removeTree(this.at(name), { keepsProtected: true })
      // Another directory may have its name by now.
      if (this.#parent.has(this.#name, this.#folder)) rmdirSync(this.#parent.at(this.#name))
    } catch (error) {
      throw showHeld(toLoamError(error, `remove ${this.shown}`), [this.#folder, this.#parent])
    }
  }

  [Symbol.dispose](): void {
    this.#folder[Symbol.dispose]()
  }
}

function setModes(
  directory: HeldDirectory,
  name: string,
  { mode, uid }: { readonly mode: number; readonly uid: number },
): void {
  using file = directory.find(name)
  const isDirectory = file?.stats.isDirectory() === true
  if (file === undefined || file.stats.uid !== uid || !(isDirectory || file.stats.isFile()))
    throw placeTaken(join(directory.shown, name))
  if (isDirectory) {
    using entered = directory.enter(name)
    for (const each of entered.list()) setModes(entered, each, { mode, uid })
  }
  chmodSync(file.path, isDirectory ? directoryMode(mode) : mode)
}

/** Whoever may read files may also search their directory. */
export function directoryMode(mode: number): number {
  return 0o700 | mode | ((mode & 0o444) >> 2)
}

/** Returns the error for a file that another process has put in the place of one that was examined or made. */
export function placeTaken(path: string): LoamError {
  return new LoamError('OUTPUT_EXISTS', `write ${path}: another file has taken its place`)
}
