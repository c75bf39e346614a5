// The tree of a folder, whose data are read where they are.
import { closeSync, constants, readSync } from 'node:fs'
import { isErrno } from '../errors/index.ts'
import { type IdMapping, O_PATH, openBeneath, openDirectory, reopenRegular } from '../linux/index.ts'
import type { FileTree } from '../tree/index.ts'
import { type PackedAs, readFolder } from './folder-reader.ts'
import { TreeSink } from './gather-folder.ts'

/** A folder in place of a layer. */
export interface FolderLayer {
  readonly folder: string
  readonly as: Exclude<PackedAs, 'layer'>
  /** The user namespace of the container whose files they are. Undefined: that of this process. */
  readonly idMapping: IdMapping | undefined
}

/** A folder as it was read once. Its files may change meanwhile; no name in it leads out of it. Memory: the tree, and the paths of files. */
export class FolderContent implements Disposable {
  readonly tree: FileTree
  /** One line for each file that is not in the tree. */
  readonly leftOut: readonly string[]
  readonly #root: number
  readonly #paths: Buffer[] = []
  #open: { readonly place: number; readonly fd: number } | undefined

  /** @throws as `readFolder` */
  constructor({ folder, as, idMapping }: FolderLayer, check: () => void) {
    const sink = new TreeSink((_data, path) => ({
      offset: this.#paths.push(path) - 1,
      segments: undefined,
    }))
    this.leftOut = readFolder(folder, { as, sink, check, idMapping }).leftOut
    this.tree = sink.tree
    this.#root = openDirectory(folder)
  }

  /** Fills a buffer with the content of the file at a place from a position on. Returns false if the file is gone, or is shorter than it was. */
  read(place: number, position: number, target: Buffer): boolean {
    const fd = this.#openFile(place)
    if (fd === undefined) return false
    for (let done = 0; done < target.length; ) {
      const length = readSync(fd, target, done, target.length - done, position + done)
      if (length === 0) return false
      done += length
    }
    return true
  }

  [Symbol.dispose](): void {
    if (this.#open !== undefined) closeSync(this.#open.fd)
    closeSync(this.#root)
  }

  #openFile(place: number): number | undefined {
    if (this.#open?.place === place) return this.#open.fd
    if (this.#open !== undefined) closeSync(this.#open.fd)
    this.#open = undefined
    const fd = openFile(this.#root, this.#paths[place] ?? Buffer.alloc(0))
    if (fd !== undefined) this.#open = { place, fd }
    return fd
  }
}

function openFile(root: number, path: Buffer): number | undefined {
  let found: number | undefined
  try {
    found = openBeneath(root, path, O_PATH | constants.O_NOFOLLOW)
    return reopenRegular(found, path.toString())?.fd
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'EXDEV')) return undefined
    throw error
  } finally {
    if (found !== undefined) closeSync(found)
  }
}
