import {
  applyLayer,
  type FileData,
  FileTree,
  formatNameText,
  type Inode,
  type LayerLimits,
  NONE,
  ROOT,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFLNK,
  S_IFREG,
} from '../tree/index.ts'
import type { ReadTree } from './contents-index.ts'
import { entryTypeOf, type FileType } from './entry-types.ts'
import { FolderContent, type FolderLayer } from './folder-content.ts'
import { TarReaders } from './layer-data.ts'
import type { LayerFiles } from './layer-files.ts'

const WINDOW_BYTES = 1 << 20

/** In what a file differs. */
export type Difference = 'type' | 'content' | 'target' | 'device' | 'mode' | 'owner' | 'xattrs' | 'time'

/** A name that only one of two trees has, or that differs. */
export interface TreeChange {
  /** `added`: only the second tree has it. `removed`: only the first one. */
  readonly kind: 'added' | 'removed' | 'changed'
  /** Its path, with a slash in front. */
  readonly path: string
  /** Type in the second tree; of a removed name in the first one. */
  readonly type: FileType
  /** In what it differs; empty unless it is changed. */
  readonly differences: readonly Difference[]
  /** Size of the file in the first tree; 0 if it is no file there. */
  readonly beforeBytes: number
  /** The same in the second tree. */
  readonly afterBytes: number
}

/** The differences of two trees. */
export interface TreeComparison {
  /** By path. Of a removed directory only the directory itself. */
  readonly changes: readonly TreeChange[]
  /** How many more there are. */
  readonly leftOut: number
  /** Names that only the second tree has, with those that are left out. */
  readonly added: number
  /** Names that only the first tree has, without what is below removed directories. */
  readonly removed: number
  /** Names that differ. */
  readonly changed: number
  /** Files of a folder that were not compared, as sockets, and why. */
  readonly notCompared: readonly string[]
}

/** A layer of a tree: one of the store, or a folder of a container. */
export type ComparedLayer = LayerFiles | FolderLayer

/** Two trees, each of layers, base first. */
export interface CompareRequest {
  readonly before: readonly ComparedLayer[]
  readonly after: readonly ComparedLayer[]
  readonly limits: LayerLimits
  /** Whether times of change count. */
  readonly times: boolean
  /** How many changes are listed. */
  readonly maxChanges: number
}

/**
 * Compares two trees by names, attributes and content. The data of a file that both have from the same place of the same layer is not read. `check` throws
 * when the work is to stop. @throws the errors of layers
 */
export function compareTrees(request: CompareRequest, readTree: ReadTree, check: () => void): TreeComparison {
  using comparison = new Comparison(request, readTree, check)
  return comparison.run()
}

class Comparison implements Disposable {
  readonly #request: CompareRequest
  readonly #check: () => void
  readonly #before: Side
  readonly #after: Side
  readonly #changes: TreeChange[] = []
  readonly #counts = { added: 0, removed: 0, changed: 0 }

  constructor(request: CompareRequest, readTree: ReadTree, check: () => void) {
    this.#request = request
    this.#check = check
    const read = (layer: LayerFiles) => readTree(layer, request.limits)
    using made = new DisposableStack()
    this.#before = made.use(new Side(request.before, read, check))
    this.#after = made.use(new Side(request.after, read, check))
    made.move()
  }

  run(): TreeComparison {
    this.#compare(ROOT, ROOT, '')
    const sum = this.#counts.added + this.#counts.removed + this.#counts.changed
    const notCompared = [...this.#before.leftOut, ...this.#after.leftOut]
    return { changes: this.#changes, leftOut: sum - this.#changes.length, ...this.#counts, notCompared }
  }

  [Symbol.dispose](): void {
    this.#before[Symbol.dispose]()
    this.#after[Symbol.dispose]()
  }

  /** Compares two inodes of one path. */
  #compare(before: Inode, after: Inode, path: string): void {
    const differences = this.#differencesOf(before, after)
    if (differences.length > 0) this.#add('changed', path, { before, after, differences })
    const [wasDirectory, isDirectory] = [
      this.#before.tree.isDirectory(before),
      this.#after.tree.isDirectory(after),
    ]
    if (wasDirectory && isDirectory) this.#compareChildren(before, after, path)
    else if (isDirectory) this.#addBelow(after, path)
  }

  #compareChildren(before: Inode, after: Inode, path: string): void {
    this.#check()
    const old = this.#before.childrenOf(before)
    const now = this.#after.childrenOf(after)
    for (const name of [...new Set([...old.keys(), ...now.keys()])].toSorted()) {
      const [was = NONE, is = NONE] = [old.get(name), now.get(name)]
      const own = `${path}/${name}`
      if (is === NONE) this.#add('removed', own, { before: was, after: NONE, differences: [] })
      else if (was === NONE) {
        this.#add('added', own, { before: NONE, after: is, differences: [] })
        if (this.#after.tree.isDirectory(is)) this.#addBelow(is, own)
      } else this.#compare(was, is, own)
    }
  }

  #addBelow(directory: Inode, path: string): void {
    const children = [...this.#after.childrenOf(directory)].toSorted(([a], [b]) => (a < b ? -1 : 1))
    for (const [name, inode] of children) {
      this.#add('added', `${path}/${name}`, { before: NONE, after: inode, differences: [] })
      if (this.#after.tree.isDirectory(inode)) this.#addBelow(inode, `${path}/${name}`)
    }
  }

  #add(
    kind: TreeChange['kind'],
    path: string,
    { before, after, differences }: { before: Inode; after: Inode; differences: readonly Difference[] },
  ): void {
    this.#counts[kind] += 1
    if (this.#changes.length >= this.#request.maxChanges) return
    const type = after === NONE ? this.#before.tree.type(before) : this.#after.tree.type(after)
    this.#changes.push({
      kind,
      path: path === '' ? '/' : path,
      type: entryTypeOf(type),
      differences,
      beforeBytes: this.#before.bytesOf(before),
      afterBytes: this.#after.bytesOf(after),
    })
  }

  #differencesOf(before: Inode, after: Inode): Difference[] {
    const [a, b] = [this.#before.tree, this.#after.tree]
    const [was, is] = [a.attributes(before), b.attributes(after)]
    const found: Difference[] = []
    const type = b.type(after)
    if (a.type(before) !== type) found.push('type')
    else if (type === S_IFREG && !this.#isSameData(before, after)) found.push('content')
    else if (type === S_IFLNK && !a.linkTarget(before).equals(b.linkTarget(after))) found.push('target')
    else if ((type === S_IFCHR || type === S_IFBLK) && !isSameDevice(a.device(before), b.device(after)))
      found.push('device')
    if (((was.mode ^ is.mode) & 0o7777) !== 0) found.push('mode')
    if (was.uid !== is.uid || was.gid !== is.gid) found.push('owner')
    if (!isSameXattrs(a, before, b, after)) found.push('xattrs')
    if (this.#request.times && type !== S_IFDIR && !isSameTime(was, is)) found.push('time')
    return found
  }

  #isSameData(before: Inode, after: Inode): boolean {
    const [was, is] = [this.#before.tree.fileData(before), this.#after.tree.fileData(after)]
    if (was.sizeBytes !== is.sizeBytes) return false
    const [from, to] = [this.#before.layers[was.layer], this.#after.layers[is.layer]]
    if (from !== undefined && to !== undefined && isSameLayer(from, to) && was.offset === is.offset)
      return true
    const [old, now] = [Buffer.alloc(WINDOW_BYTES), Buffer.alloc(WINDOW_BYTES)]
    for (let at = 0; at < was.sizeBytes; at += WINDOW_BYTES) {
      this.#check()
      const length = Math.min(WINDOW_BYTES, was.sizeBytes - at)
      const a = this.#before.read(was, at, old.subarray(0, length))
      const b = this.#after.read(is, at, now.subarray(0, length))
      // A file of a folder may have changed since.
      if (a === undefined || b === undefined || !a.equals(b)) return false
    }
    return true
  }
}

/** One of the trees, and its data. */
class Side implements Disposable {
  readonly tree = new FileTree()
  readonly layers: readonly ComparedLayer[]
  readonly #tars: TarReaders
  readonly #folders = new Map<number, FolderContent>()

  constructor(
    layers: readonly ComparedLayer[],
    readTree: (layer: LayerFiles) => FileTree,
    check: () => void,
  ) {
    this.layers = layers
    this.#tars = new TarReaders(layers.map((layer) => ({ tarPath: '', ...layer })))
    try {
      for (const [index, layer] of layers.entries())
        applyLayer(
          this.tree,
          'folder' in layer ? this.#openFolder(index, layer, check) : readTree(layer),
          index,
        )
    } catch (error) {
      this[Symbol.dispose]()
      throw error
    }
  }

  get leftOut(): readonly string[] {
    return [...this.#folders.values()].flatMap(({ leftOut }) => leftOut)
  }

  #openFolder(index: number, layer: FolderLayer, check: () => void): FileTree {
    const content = new FolderContent(layer, check)
    this.#folders.set(index, content)
    return content.tree
  }

  childrenOf(directory: Inode): Map<string, Inode> {
    const children = [...this.tree.children(directory)]
    return new Map(
      children.map((entry) => [formatNameText(this.tree.entryName(entry)), this.tree.entryInode(entry)]),
    )
  }

  bytesOf(inode: Inode): number {
    return inode !== NONE && this.tree.type(inode) === S_IFREG ? this.tree.fileData(inode).sizeBytes : 0
  }

  /** Fills a buffer with the content of a file from a position on; holes are zeros. Returns undefined for a file of a folder that has changed. */
  read({ layer, offset, segments }: FileData, position: number, target: Buffer): Buffer | undefined {
    const folder = this.#folders.get(layer)
    if (folder !== undefined) return folder.read(offset, position, target) ? target : undefined
    if (segments === undefined) {
      this.#tars.read(layer, offset + position, target)
      return target
    }
    target.fill(0)
    let stored = offset
    for (let index = 0; index < segments.length; index += 2) {
      const [start = 0, bytes = 0] = segments.subarray(index, index + 2)
      const from = Math.max(start, position)
      const to = Math.min(start + bytes, position + target.length)
      if (from < to)
        this.#tars.read(layer, stored + from - start, target.subarray(from - position, to - position))
      stored += bytes
    }
    return target
  }

  [Symbol.dispose](): void {
    this.#tars[Symbol.dispose]()
    for (const content of this.#folders.values()) content[Symbol.dispose]()
  }
}

function isSameLayer(a: ComparedLayer, b: ComparedLayer): boolean {
  return 'folder' in a ? 'folder' in b && a.folder === b.folder : 'tarPath' in b && a.tarPath === b.tarPath
}

function isSameDevice(a: ReturnType<FileTree['device']>, b: ReturnType<FileTree['device']>): boolean {
  return a.major === b.major && a.minor === b.minor
}

function isSameTime(a: ReturnType<FileTree['attributes']>, b: ReturnType<FileTree['attributes']>): boolean {
  return a.mtimeSeconds === b.mtimeSeconds && a.mtimeNanoseconds === b.mtimeNanoseconds
}

function isSameXattrs(a: FileTree, before: Inode, b: FileTree, after: Inode): boolean {
  const [was, is] = [a.xattrs(before), b.xattrs(after)]
  return (
    was.length === is.length &&
    was.every(
      ({ name, value }, index) => is[index]?.name.equals(name) === true && is[index].value.equals(value),
    )
  )
}
