// Images made of random operations: each goes to the model, and into a tar.
import { type BuildEntry, buildTar } from '../../src/testing/index.ts'
import type { Random } from '../faults/random.ts'
import {
  type Attributes,
  type Directory,
  emptyRoot,
  find,
  type Leaf,
  LayerModel,
  type Path,
} from './image-model.ts'
import { sparseEntry } from './sparse-entry.ts'

/** The shape of an image. */
export interface ImageShape {
  /** Operations of each layer, base first. */
  readonly layers: readonly number[]
  /** Share of operations that remove files of lower layers. */
  readonly removals: number
  /** Names in one directory of the base. */
  readonly crowd: number
  /** Share of new names in a directory that no layer lists. */
  readonly unlisted: number
}

export interface RandomImage {
  /** Base first. */
  readonly tars: readonly Buffer[]
  /** The tree after each layer. */
  readonly trees: readonly Directory[]
  /** umoci reads an entry differently. */
  readonly isDisputed: boolean
}

/** Columns grow at these numbers of entries, hash tables at powers of two, and two bytes end at 65,536. */
const EDGES = [64, 65, 96, 97, 144, 145, 216, 217, 324, 486, 512, 729, 1024, 1093, 1640]
const PLAIN = ['a', 'b', 'c', 'd', 'e', 'lib', 'etc']
const ODD = [
  'new\nline',
  'with blank ',
  '-x',
  '!',
  '.hidden',
  '...',
  '.wh',
  'wh.a',
  '=',
  'a=b',
  '"quoted"',
  '\\',
  '\xff\xfe',
  'caf\xc3\xa9',
  'x'.repeat(255),
  'y'.repeat(252),
]
const SECONDS = [0, 1, -1, 1_700_000_000, 1_700_000_001, 2 ** 31, 2 ** 32, 2 ** 33]
const OWNERS = [0, 0, 0, 1000, 65_535, 65_536, 4_294_967_294]

/** Chooses the shape of an image. `entries` bounds the operations of one layer, `layers` their number. */
export function randomShape(
  random: Random,
  { entries, layers }: { entries: number; layers: number },
): ImageShape {
  const kind = random.weighted({ usual: 5, removing: 3, deep: 2 })
  const some = (limit: number) => 1 + random.below(Math.max(1, limit))
  const unlisted = random.pick([0, 0.15])
  if (kind === 'deep') {
    const count = 2 + random.below(layers)
    return { layers: Array.from({ length: count }, () => some(12)), removals: 0.3, crowd: 0, unlisted }
  }
  if (kind === 'usual') {
    const count = 1 + random.below(Math.min(5, layers))
    return {
      layers: Array.from({ length: count }, () => some(Math.min(60, entries))),
      removals: 0.25,
      crowd: 0,
      unlisted,
    }
  }
  // Layers of whiteouts alone, as long as an edge: each of their entries is one that makes a column grow.
  const edges = EDGES.filter((edge) => edge <= entries)
  const length = Math.min(entries, (edges.length === 0 ? entries : random.pick(edges)) + random.below(3))
  return { layers: [some(20), length, some(20)], removals: 0.95, crowd: length + some(50), unlisted }
}

/** Makes an image by operations. The same random numbers make the same image. */
export function randomImage(random: Random, shape: ImageShape): RandomImage {
  const trees: Directory[] = []
  const tars: Buffer[] = []
  let isDisputed = false
  for (const [index, count] of shape.layers.entries()) {
    const maker = new LayerMaker(random, trees.at(-1) ?? emptyRoot(), shape)
    if (index === 0) {
      maker.describeRoot()
      maker.addCrowd(shape.crowd)
    }
    for (let operation = 0; operation < count; operation += 1) maker.act()
    trees.push(maker.tree())
    tars.push(maker.tar())
    isDisputed ||= maker.isDisputed
  }
  return { tars, trees, isDisputed }
}

class LayerMaker {
  readonly #random: Random
  readonly #lower: Directory
  readonly #shape: ImageShape
  readonly #layer = new LayerModel()
  readonly #parts: Buffer[] = []
  #entries: BuildEntry[] = []
  /** Existing paths, of this layer and below. */
  readonly #known: { path: Path; isDirectory: boolean }[] = []

  constructor(random: Random, lower: Directory, shape: ImageShape) {
    this.#random = random
    this.#lower = lower
    this.#shape = shape
    const pending: Path[] = [[]]
    for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
      const node = find(lower, path)
      if (node?.kind !== 'directory') continue
      for (const [name, child] of node.children) {
        const below = [...path, name]
        this.#known.push({ path: below, isDirectory: child.kind === 'directory' })
        if (child.kind === 'directory') pending.push(below)
      }
    }
  }

  /** Known after `tree`. */
  get isDisputed(): boolean {
    return this.#layer.isDisputed
  }

  tree(): Directory {
    return this.#layer.over(this.#lower)
  }

  tar(): Buffer {
    this.#flush()
    return Buffer.concat([...this.#parts, Buffer.alloc(1024)])
  }

  #flush(): void {
    if (this.#entries.length > 0) this.#parts.push(buildTar(this.#entries).subarray(0, -1024))
    this.#entries = []
  }

  describeRoot(): void {
    const attributes = this.#attributes('directory')
    this.#layer.addDirectory([], attributes)
    this.#add([], attributes, { type: 'directory', name: './' })
  }

  addCrowd(count: number): void {
    if (this.#random.next() > this.#shape.unlisted) this.#addDirectory(['crowd'], ['crowd'])
    for (let index = 0; index < count; index += 1)
      this.#addLeaf(['crowd', `f${index}`], ['crowd', `f${index}`])
  }

  act(): void {
    if (this.#random.next() < this.#shape.removals) this.#remove()
    else this.#put()
  }

  #remove(): void {
    const { path } = this.#known.length === 0 ? { path: this.#newPath() } : this.#random.pick(this.#known)
    const kind = this.#random.weighted({ whiteout: 30, opaque: 2, below: 2, nothing: 1 })
    const written = kind === 'below' ? [...path, this.#name()] : kind === 'nothing' ? this.#newPath() : path
    const isOpaque =
      kind === 'opaque' && this.#known.some((known) => known.path === path && known.isDirectory)
    const mark = isOpaque ? [...written, 'mark'] : written
    const resolved = this.#layer.resolve(mark)
    if (resolved === undefined) return
    const parent = resolved.slice(0, -1)
    if (isOpaque) this.#layer.makeOpaque(parent)
    else this.#layer.hide(resolved)
    const name = isOpaque ? '.wh..wh..opq' : `.wh.${mark.at(-1)}`
    const type = this.#random.next() < 0.1 ? 'hardlink' : 'file'
    this.#add([...mark.slice(0, -1), name], undefined, {
      type,
      linkName: type === 'file' ? '' : '.wh..wh.aufs',
    })
  }

  #put(): void {
    const path = this.#placeForNew()
    const resolved = this.#layer.resolve(path)
    if (resolved === undefined || path.length > 8) return
    const kind = this.#random.weighted({ leaf: 12, directory: 6, hardlink: 4 })
    if (kind === 'directory') this.#addDirectory(path, resolved)
    else if (kind === 'leaf') this.#addLeaf(path, resolved)
    else this.#addHardLink(path, resolved)
  }

  /** An old name or a new one, below any directory, and now and then below a file. */
  #placeForNew(): Path {
    if (this.#known.length > 0 && this.#random.next() < 0.35) return this.#random.pick(this.#known).path
    return this.#newPath()
  }

  #newPath(): Path {
    const directories =
      this.#random.next() < 0.95 ? this.#known.filter(({ isDirectory }) => isDirectory) : this.#known
    const above =
      directories.length === 0 || this.#random.next() < 0.2 ? [] : this.#random.pick(directories).path
    const path = [...above, this.#name()]
    return this.#random.next() < this.#shape.unlisted ? [...path, this.#name()] : path
  }

  #name(): string {
    const kind = this.#random.weighted({ plain: 10, odd: 2, new: 6 })
    if (kind === 'new') return `n${this.#random.below(100_000)}`
    return this.#random.pick(kind === 'plain' ? PLAIN : ODD)
  }

  #addDirectory(path: Path, resolved: Path): void {
    const attributes = this.#attributes('directory')
    this.#layer.addDirectory(resolved, attributes)
    this.#add(path, attributes, { type: 'directory' })
    this.#known.push({ path: resolved, isDirectory: true })
  }

  #addLeaf(path: Path, resolved: Path): void {
    const kind = this.#random.weighted({ file: 20, sparse: 1, symlink: 5, character: 1, block: 1, fifo: 1 })
    if (kind === 'sparse') {
      this.#addSparse(path, resolved)
      return
    }
    const attributes = this.#attributes(kind)
    const data = kind === 'file' ? this.#data() : undefined
    const target = kind === 'symlink' ? this.#target() : undefined
    const device =
      kind === 'character' || kind === 'block'
        ? { major: this.#random.pick([1, 4095]), minor: this.#random.pick([0, 3, 256, 1_048_575]) }
        : undefined
    const leaf: Leaf = {
      kind,
      attributes,
      ...(data === undefined ? {} : { data }),
      ...(target === undefined ? {} : { target }),
      ...(device === undefined ? {} : { device }),
    }
    this.#layer.addLeaf(resolved, leaf)
    this.#add(path, attributes, {
      type: kind,
      ...(data === undefined ? {} : { data }),
      ...(target === undefined ? {} : { linkName: Buffer.from(target, 'latin1') }),
      ...(device === undefined ? {} : { deviceMajor: device.major, deviceMinor: device.minor }),
    })
    this.#known.push({ path: resolved, isDirectory: false })
  }

  #addSparse(path: Path, resolved: Path): void {
    const segments = Array.from({ length: this.#random.below(4) }, (_value, index) => ({
      offset: index * 100_000 + this.#random.below(50_000),
      data: Buffer.alloc(1 + this.#random.below(9000), `${index}`),
    }))
    const size = 400_000 + this.#random.below(100_000)
    const data = Buffer.alloc(size)
    for (const segment of segments) segment.data.copy(data, segment.offset)
    const attributes: Attributes = {
      mode: 0o640,
      uid: 0,
      gid: 5,
      mtimeSeconds: 1_600_000_000,
      mtimeNanoseconds: 0,
      xattrs: {},
    }
    this.#layer.addLeaf(resolved, { kind: 'file', attributes, data })
    this.#flush()
    this.#parts.push(sparseEntry(Buffer.from(path.join('/'), 'latin1'), attributes, { size, segments }))
    this.#known.push({ path: resolved, isDirectory: false })
  }

  #addHardLink(path: Path, resolved: Path): void {
    const files = this.#known.filter(({ isDirectory }) => !isDirectory)
    if (files.length === 0) return
    const target = this.#random.pick(files).path
    // Through directories alone: what a symlink in a link's target means is left open.
    const isPlain = this.#layer.resolve(target)?.join('/') === target.join('/')
    const isThere = this.#layer.has(target) || isLeaf(find(this.#lower, target))
    const isInside = target.every((name, index) => resolved[index] === name)
    if (!isPlain || !isThere || isInside || this.#layer.isOwnDirectory(target)) return
    if (!this.#layer.addHardLink(resolved, target)) return
    this.#add(path, undefined, { type: 'hardlink', linkName: Buffer.from(target.join('/'), 'latin1') })
    this.#known.push({ path: resolved, isDirectory: false })
  }

  #data(): Buffer {
    const size = this.#random.pick([0, 1, 7, 100, 511, 512, 513, 4095, 4096, 4097, 20_000])
    return Buffer.alloc(size, `${this.#random.below(1_000_000)} `)
  }

  #target(): string {
    const kind = this.#random.weighted({ known: 4, dangling: 2, long: 1, up: 1 })
    if (kind === 'known' && this.#known.length > 0) return `/${this.#random.pick(this.#known).path.join('/')}`
    if (kind === 'long') return 'l/'.repeat(1 + this.#random.below(2000)).slice(0, 4000)
    return kind === 'up' ? `../../${this.#name()}` : this.#name()
  }

  #attributes(kind: Leaf['kind'] | 'directory'): Attributes {
    return {
      mode: this.#random.pick([0o644, 0o755, 0o600, 0o4755, 0o2770, 0o1777, 0, 0o7777]),
      uid: this.#random.pick(OWNERS),
      gid: this.#random.pick(OWNERS),
      mtimeSeconds: this.#random.pick(SECONDS),
      mtimeNanoseconds: this.#random.pick([0, 0, 1, 999_999_999, 123_456_789]),
      xattrs: this.#random.next() < 0.2 ? this.#xattrs(kind) : {},
    }
  }

  /** Linux supports `user.` only on files and directories, and ext4 4 KiB for each. */
  #xattrs(kind: Leaf['kind'] | 'directory'): Record<string, Buffer> {
    const xattrs: Record<string, Buffer> = {}
    const isPlain = kind === 'file' || kind === 'directory'
    const names = isPlain
      ? ['user.a', 'user.b', 'trusted.a', 'security.x']
      : ['trusted.a', 'trusted.b', 'security.x']
    for (let index = this.#random.below(3); index >= 0; index -= 1) {
      const name = this.#random.pick(names)
      xattrs[name] = this.#random.pick([
        Buffer.alloc(0),
        Buffer.from('1'),
        Buffer.from(`1\0${names[1]}=2`),
        Buffer.from([0, 255, 10, 61]),
        Buffer.alloc(1 + this.#random.below(800), 'x'),
      ])
    }
    if (kind === 'file' && this.#random.next() < 0.1) {
      xattrs['security.capability'] = Buffer.from('0100000200200000000000000000000000000000', 'hex')
    }
    return xattrs
  }

  #add(
    path: Path,
    attributes: Attributes | undefined,
    entry: Omit<BuildEntry, 'name'> & { name?: string },
  ): void {
    const text = path.join('/')
    const prefix = this.#random.pick(['', '', './', '/'])
    this.#entries.push({
      ...attributes,
      ...entry,
      name: entry.name ?? Buffer.from(`${prefix}${text}${entry.type === 'directory' ? '/' : ''}`, 'latin1'),
    })
  }
}

function isLeaf(node: Directory | Leaf | undefined): boolean {
  return node !== undefined && node.kind !== 'directory'
}
