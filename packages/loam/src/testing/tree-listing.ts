import { createHash } from 'node:crypto'
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { readXattrs } from '../linux/index.ts'

export interface ListingOptions {
  /** Leave out the times of directories, for tools that cannot keep them. */
  readonly withoutDirectoryTimes?: boolean
  /** Leave out xattrs whose names match. */
  readonly withoutXattrs?: RegExp
}

/**
 * Describes a tree of files on disk, one line a name, sorted by bytes: type, mode, owner, size, time in ns, device, link
 * target, xattrs, digest of the content, and which names are one file. Two trees are equal when their listings are.
 */
export function listTree(root: string, options: ListingOptions = {}): string[] {
  const lister = new Lister(Buffer.from(root), options)
  lister.visit(Buffer.alloc(0))
  return lister.lines
}

class Lister {
  readonly lines: string[] = []
  readonly #root: Buffer
  readonly #options: ListingOptions
  readonly #firstNames = new Map<string, string>()

  constructor(root: Buffer, options: ListingOptions) {
    this.#root = root
    this.#options = options
  }

  visit(path: Buffer): void {
    const full = path.length === 0 ? this.#root : Buffer.concat([this.#root, Buffer.from('/'), path])
    const stats = lstatSync(full, { bigint: true })
    const name = path.toString('latin1')
    const fields = [
      JSON.stringify(name),
      Number(stats.mode).toString(8),
      `${stats.uid}:${stats.gid}`,
      this.#describeContent(full, stats),
    ]
    if (!(stats.isDirectory() && this.#options.withoutDirectoryTimes === true))
      fields.push(`t=${stats.mtimeNs}`)
    for (const { name: key, value } of readXattrs(full).toSorted((a, b) => a.name.compare(b.name))) {
      if (this.#options.withoutXattrs?.test(key.toString('latin1')) === true) continue
      fields.push(`${key.toString('latin1')}=${value.toString('hex')}`)
    }
    if (!stats.isDirectory() && stats.nlink > 1n) fields.push(`same=${this.#firstName(stats.ino, name)}`)
    this.lines.push(fields.join(' '))
    if (!stats.isDirectory()) return
    const names = readdirSync(full, { encoding: 'buffer' }).toSorted((a, b) => a.compare(b))
    for (const child of names)
      this.visit(path.length === 0 ? child : Buffer.concat([path, Buffer.from('/'), child]))
  }

  #firstName(inode: bigint, name: string): string {
    const known = this.#firstNames.get(String(inode)) ?? name
    this.#firstNames.set(String(inode), known)
    return JSON.stringify(known)
  }

  #describeContent(
    path: Buffer,
    stats: ReturnType<typeof lstatSync> & { size: bigint; rdev: bigint },
  ): string {
    if (stats.isFile())
      return `${stats.size} ${createHash('sha256').update(readFileSync(path)).digest('hex').slice(0, 16)}`
    if (stats.isSymbolicLink()) return `-> ${readlinkSync(path, { encoding: 'buffer' }).toString('latin1')}`
    if (stats.isCharacterDevice() || stats.isBlockDevice()) return `dev ${stats.rdev}`
    return '-'
  }
}
