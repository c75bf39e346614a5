/*
 * A plain model of images: trees of objects, changed by operations. It reads no tar and shares no code with `src/tree`, so that a
 * mistake there is not one here. The rules are those of docs/layers.md.
 */
import { createHash } from 'node:crypto'

/** Names are bytes, one character each (latin1). */
export type Path = readonly string[]

export interface Attributes {
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly mtimeSeconds: number
  readonly mtimeNanoseconds: number
  readonly xattrs: Readonly<Record<string, Buffer>>
}

/** Everything but a directory. Two names of one object are hard links. */
export interface Leaf {
  readonly kind: 'file' | 'symlink' | 'character' | 'block' | 'fifo'
  readonly attributes: Attributes
  /** Of a file. */
  readonly data?: Buffer
  /** Of a symlink. */
  readonly target?: string
  readonly device?: { readonly major: number; readonly minor: number }
}

export interface Directory {
  readonly kind: 'directory'
  attributes: Attributes
  readonly children: Map<string, Directory | Leaf>
}

const UNLISTED: Attributes = { mode: 0o755, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanoseconds: 0, xattrs: {} }
const TYPE_BITS = { file: 0o100000, symlink: 0o120000, character: 0o20000, block: 0o60000, fifo: 0o10000 }

export function emptyRoot(): Directory {
  return { kind: 'directory', attributes: UNLISTED, children: new Map() }
}

/** Returns the node at a path, through directories only. */
export function find(root: Directory, path: Path): Directory | Leaf | undefined {
  let found: Directory | Leaf | undefined = root
  for (const name of path) found = found?.kind === 'directory' ? found.children.get(name) : undefined
  return found
}

function findDirectory(root: Directory, path: Path): Directory | undefined {
  const found = find(root, path)
  return found?.kind === 'directory' ? found : undefined
}

/** A layer's entry in a directory of its own. */
interface OwnDirectory {
  readonly kind: 'directory'
  /** Undefined: the layer does not list it, and has an entry in it. */
  attributes: Attributes | undefined
  readonly children: Map<string, OwnDirectory | Leaf | LowerLink>
}

/** A hard link to a file that is in lower layers alone. */
interface LowerLink {
  readonly kind: 'lower-link'
  readonly target: Path
}

/** One layer, with the operations that build it. */
export class LayerModel {
  readonly #own: OwnDirectory = { kind: 'directory', attributes: undefined, children: new Map() }
  /** The specification leaves the meaning of an entry of this layer open, or umoci 0.4.7 is known to differ. */
  isDisputed = false
  #hidden: Path[] = []
  #opaque: Path[] = []

  /**
   * Returns where a path leads: through symlinks of this layer, inside of the root. Undefined if a file of this layer is in the way.
   * The last part is not followed.
   */
  resolve(path: Path): Path | undefined {
    const name = path.at(-1)
    if (name === undefined) return []
    const done: string[] = []
    const pending = path.slice(0, -1).toReversed()
    for (let steps = 0, next = pending.pop(); next !== undefined; steps += 1, next = pending.pop()) {
      if (steps > 200) return undefined
      const found = next === '..' ? undefined : this.#find([...done, next])
      if (next === '..') done.pop()
      else if (found === undefined || found.kind === 'directory') done.push(next)
      else if (found.kind === 'symlink') {
        if (found.target?.startsWith('/') === true) done.length = 0
        const parts = (found.target ?? '').split('/').filter((part) => part !== '' && part !== '.')
        pending.push(...parts.toReversed())
      } else return undefined
    }
    return [...done, name]
  }

  #find(path: Path): OwnDirectory | Leaf | LowerLink | undefined {
    let found: OwnDirectory | Leaf | LowerLink | undefined = this.#own
    for (const name of path) found = found?.kind === 'directory' ? found.children.get(name) : undefined
    return found
  }

  #directory(path: Path): OwnDirectory {
    let directory = this.#own
    for (const name of path) {
      const found = directory.children.get(name)
      if (found?.kind === 'directory') directory = found
      else {
        if (found !== undefined) this.isDisputed = true
        const made: OwnDirectory = { kind: 'directory', attributes: undefined, children: new Map() }
        directory.children.set(name, made)
        directory = made
      }
    }
    return directory
  }

  addDirectory(path: Path, attributes: Attributes): void {
    this.#directory(path).attributes = attributes
  }

  addLeaf(path: Path, leaf: Leaf): void {
    this.#forgetMarksIn(path)
    this.#directory(path.slice(0, -1)).children.set(path.at(-1) ?? '', leaf)
  }

  /** Returns false, and does nothing, if the target is a directory of this layer, or the link itself. */
  addHardLink(path: Path, target: Path): boolean {
    const directory = this.#directory(path.slice(0, -1))
    const found = this.#find(target)
    if (found?.kind === 'directory') return false
    const name = path.at(-1) ?? ''
    if (found === undefined || directory.children.get(name) !== found) {
      this.#forgetMarksIn(path)
      directory.children.set(name, found ?? { kind: 'lower-link', target })
    }
    return true
  }

  /** Removes the layer's attributes of a directory when the layer itself replaces it. */
  #forgetMarksIn(path: Path): void {
    const isOutside = (mark: Path, isDeeper: boolean) =>
      mark.length < path.length + (isDeeper ? 1 : 0) || path.some((name, index) => mark[index] !== name)
    const count = this.#hidden.length + this.#opaque.length
    this.#hidden = this.#hidden.filter((mark) => isOutside(mark, true))
    this.#opaque = this.#opaque.filter((mark) => isOutside(mark, false))
    if (this.#hidden.length + this.#opaque.length < count) this.isDisputed = true
  }

  /** Returns whether this layer has a file or a directory of that name. */
  has(path: Path): boolean {
    return this.#find(path) !== undefined
  }

  isOwnDirectory(path: Path): boolean {
    return this.#find(path)?.kind === 'directory'
  }

  hide(path: Path): void {
    this.#hidden.push(path)
  }

  makeOpaque(directory: Path): void {
    this.#opaque.push(directory)
  }

  /** Applies this layer to a copy of a tree. */
  over(lower: Directory): Directory {
    const result = copy(lower)
    for (const path of [...this.#hidden, ...this.#opaque]) this.#lookForSymlinks(lower, path)
    for (const path of this.#hidden)
      findDirectory(result, path.slice(0, -1))?.children.delete(path.at(-1) ?? '')
    for (const path of this.#opaque) findDirectory(result, path)?.children.clear()
    this.#lay(this.#own, result, lower)
    return result
  }

  #lay(own: OwnDirectory, onto: Directory, lower: Directory): void {
    if (own.attributes !== undefined) onto.attributes = own.attributes
    for (const [name, node] of own.children) {
      if (node.kind === 'directory') {
        const found = onto.children.get(name)
        // umoci gives a directory that it creates the group of a setgid parent, or of a hidden directory.
        if (found?.kind !== 'directory' && node.attributes === undefined) this.isDisputed = true
        if (found?.kind === 'symlink') this.isDisputed = true
        const below = found?.kind === 'directory' ? found : emptyRoot()
        onto.children.set(name, below)
        this.#lay(node, below, lower)
      } else onto.children.set(name, node.kind === 'lower-link' ? findLeaf(lower, node.target) : node)
    }
  }

  /** Loam follows only symlinks of the same layer, umoci those of lower ones, too. */
  #lookForSymlinks(lower: Directory, path: Path): void {
    for (let length = 1; length <= path.length; length += 1) {
      if (find(lower, path.slice(0, length))?.kind === 'symlink' && length < path.length)
        this.isDisputed = true
    }
  }
}

function copy(directory: Directory): Directory {
  const children = new Map<string, Directory | Leaf>()
  for (const [name, node] of directory.children)
    children.set(name, node.kind === 'directory' ? copy(node) : node)
  return { kind: 'directory', attributes: directory.attributes, children }
}

function findLeaf(root: Directory, path: Path): Leaf {
  const found = find(root, path)
  if (found === undefined || found.kind === 'directory')
    throw new Error(`the model has no file ${path.join('/')}`)
  return found
}

/** Lists a tree as `listTree` lists one on disk, after `onlyShared`. */
export function listModel(root: Directory): string[] {
  const lines: string[] = []
  const firsts = new Map<Leaf, string>()
  const visit = (node: Directory | Leaf, path: string) => {
    const { mode, uid, gid, mtimeSeconds, mtimeNanoseconds, xattrs } = node.attributes
    const type = node.kind === 'directory' ? 0o40000 : TYPE_BITS[node.kind]
    const fields = [
      JSON.stringify(path),
      (type | (node.kind === 'symlink' ? 0o777 : mode)).toString(8),
      `${uid}:${gid}`,
      describe(node),
      `t=${BigInt(mtimeSeconds) * 1_000_000_000n + BigInt(mtimeNanoseconds)}`,
    ]
    for (const name of Object.keys(xattrs).toSorted()) fields.push(`${name}=${xattrs[name]?.toString('hex')}`)
    if (node.kind !== 'directory') {
      const first = firsts.get(node) ?? path
      firsts.set(node, first)
      fields.push(`same=${JSON.stringify(first)}`)
    }
    lines.push(fields.join(' '))
    if (node.kind !== 'directory') return
    for (const name of [...node.children.keys()].toSorted()) {
      const child = node.children.get(name)
      if (child !== undefined) visit(child, path === '' ? name : `${path}/${name}`)
    }
  }
  visit(root, '')
  return onlyShared(lines)
}

function describe(node: Directory | Leaf): string {
  switch (node.kind) {
    case 'file': {
      const data = node.data ?? Buffer.alloc(0)
      return `${data.length} ${createHash('sha256').update(data).digest('hex').slice(0, 16)}`
    }
    case 'symlink':
      return `-> ${node.target}`
    case 'character':
    case 'block': {
      const { major, minor } = node.device ?? { major: 0, minor: 0 }
      return `dev ${(BigInt(major) << 8n) | BigInt(minor & 0xff) | (BigInt(minor >>> 8) << 20n)}`
    }
    case 'fifo':
    case 'directory':
      return '-'
  }
}

/** Takes `same=` from lines of files with one name in the listing: other names may be hidden, which no link count tells. */
export function onlyShared(lines: readonly string[]): string[] {
  const counts = new Map<string, number>()
  const sameOf = (line: string) => / (same=".*")$/.exec(line)?.[1]
  for (const line of lines) {
    const same = sameOf(line)
    if (same !== undefined) counts.set(same, (counts.get(same) ?? 0) + 1)
  }
  return lines.map((line) => {
    const same = sameOf(line)
    return same === undefined || (counts.get(same) ?? 0) > 1 ? line : line.slice(0, -same.length - 1)
  })
}
