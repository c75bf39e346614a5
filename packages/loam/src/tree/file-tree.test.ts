import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { FileTree, type Inode, NONE, ROOT, S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG } from './file-tree.ts'

const attributes = (mode: number, mtimeSeconds = 0) => ({
  mode,
  uid: 0,
  gid: 0,
  mtimeSeconds,
  mtimeNanoseconds: 0,
})
const bytes = (text: string) => Buffer.from(text)

/** Columns begin with 64 records and grow by half: 64, 96, 144, 216, …; this is past the tenth time. */
const PAST_GROWTH = 4000

describe('a file tree that grows', () => {
  test('a growing file tree keeps a whiteout at whatever number it is', () => {
    const tree = new FileTree()
    for (let number = 0; number < PAST_GROWTH; number += 1) tree.markWhiteout(ROOT, bytes(`w${number}`))
    const lost = Array.from({ length: PAST_GROWTH }, (_none, number) => number).filter(
      (number) => !tree.isWhiteout(tree.findEntry(ROOT, bytes(`w${number}`))),
    )
    assert.deepEqual(lost, [])
  })

  test('a growing file tree keeps everything that was added, in any order', () => {
    const kinds = fc.array(fc.constantFrom(...KINDS), { minLength: 1, maxLength: 6 })
    fc.assert(
      fc.property(kinds, fc.integer({ min: 0, max: 70 }), (pattern, offset) => {
        const known = new Known()
        for (let number = 0; number < offset; number += 1) known.make('file', number)
        for (let number = offset; number < PAST_GROWTH / 4; number += 1)
          known.make(pattern[number % pattern.length] ?? 'file', number)
        known.check()
      }),
      { numRuns: 40 },
    )
  })

  test('a growing file tree accepts a name or target that is a view of its own names', () => {
    const tree = new FileTree()
    let entry = tree.setEntry(ROOT, bytes('n'.repeat(200)), tree.createDirectory(ROOT))
    // The arena grows several times on the way.
    for (let count = 0; count < 200; count += 1) {
      const directory = tree.entryInode(entry)
      entry = tree.setEntry(directory, tree.entryName(entry), tree.createDirectory(directory))
      assert.equal(tree.findEntry(directory, bytes('n'.repeat(200))), entry)
    }
  })

  test('a growing file tree never confuses two sets of xattrs, whatever bytes they hold', () => {
    const xattr = fc.record({
      name: fc.string({ unit: fc.constantFrom('a', '=', '\0', ':', '1'), minLength: 1, maxLength: 6 }),
      value: fc.string({ unit: fc.constantFrom('a', '=', '\0', ':', '1'), maxLength: 6 }),
    })
    const set = fc.uniqueArray(xattr, { maxLength: 3, selector: ({ name }) => name })
    fc.assert(
      fc.property(fc.array(set, { maxLength: 8 }), (sets) => {
        const tree = new FileTree()
        const inodes = sets.map((xattrs) => {
          const inode = tree.createDirectory(ROOT)
          const given = xattrs.map(({ name, value }) => ({ name: bytes(name), value: bytes(value) }))
          tree.setXattrs(inode, given)
          return inode
        })
        const text = (inode: Inode) =>
          tree.xattrs(inode).map(({ name, value }) => ({ name: name.toString(), value: value.toString() }))
        assert.deepEqual(
          inodes.map(text),
          sets.map((xattrs) =>
            xattrs.toSorted((a, b) => (a.name < b.name ? -1 : 1)).map((known) => ({ ...known })),
          ),
        )
      }),
    )
    const tree = new FileTree()
    const [both, one] = [tree.createDirectory(ROOT), tree.createDirectory(ROOT)]
    tree.setXattrs(one, [{ name: bytes('user.a'), value: bytes('1\0user.b=2') }])
    tree.setXattrs(both, [
      { name: bytes('user.a'), value: bytes('1') },
      { name: bytes('user.b'), value: bytes('2') },
    ])
    assert.deepEqual([tree.xattrs(one).length, tree.xattrs(both).length], [1, 2])
  })
})

const KINDS = [
  'file',
  'sparse',
  'directory',
  'link',
  'device',
  'whiteout',
  'xattrs',
  'removed',
  'twice',
] as const
type Kind = (typeof KINDS)[number]

/** A tree, and the expected entry of each name. */
class Known {
  readonly #tree = new FileTree()
  readonly #names: { readonly parent: Inode; readonly name: Buffer; readonly expected: unknown }[] = []
  #directory: Inode = ROOT

  make(kind: Kind, number: number): void {
    const name = bytes(`${kind}-${number}`)
    const parent = this.#directory
    this.#names.push({ parent, name, expected: expectedOf(kind, number) })
    if (kind === 'whiteout') this.#tree.markWhiteout(parent, name)
    else this.#tree.setEntry(parent, name, this.#create(kind, number))
    if (kind === 'directory') this.#directory = this.#tree.find(parent, name)
    if (kind === 'removed') this.#tree.removeEntry(parent, name)
    if (kind === 'twice') this.#tree.setEntry(parent, name, this.#create('file', number + 1))
  }

  #create(kind: Kind, number: number): Inode {
    const tree = this.#tree
    if (kind === 'link')
      return tree.createLink(attributes(S_IFLNK | 0o777, number), bytes(`target-${number}`))
    if (kind === 'device')
      return tree.createSpecial(attributes(S_IFCHR | 0o600, number), number % 4096, number)
    if (kind === 'directory') {
      const directory = tree.createDirectory(this.#directory, attributes(S_IFDIR | 0o700, number))
      tree.setInherited(directory, number % 2 === 0)
      if (number % 3 === 0) tree.markOpaque(directory)
      return directory
    }
    const segments = kind === 'sparse' ? Float64Array.of(number, 1) : undefined
    const data = { layer: number % 7, sizeBytes: number * 3, offset: number * 512, segments }
    const file = tree.createFile(attributes(S_IFREG | 0o644, number), data)
    if (kind === 'xattrs') tree.setXattrs(file, [{ name: bytes('user.n'), value: bytes(`${number % 50}`) }])
    return file
  }

  check(): void {
    assert.deepEqual(
      this.#names.map(({ parent, name }) => this.#describe(parent, name)),
      this.#names.map(({ expected }) => expected),
    )
  }

  #describe(parent: Inode, name: Buffer): unknown {
    const tree = this.#tree
    const entry = tree.findEntry(parent, name)
    const inode = tree.entryInode(entry)
    const common = { isWhiteout: tree.isWhiteout(entry), path: tree.entryName(entry).toString() }
    if (inode === NONE) return common
    const { mode, mtimeSeconds } = tree.attributes(inode)
    const described = { ...common, mode, mtimeSeconds, links: tree.linkCount(inode) }
    const type = tree.type(inode)
    if (type === S_IFLNK) return { ...described, target: tree.linkTarget(inode).toString() }
    if (type === S_IFCHR) return { ...described, ...tree.device(inode) }
    if (type === S_IFDIR)
      return { ...described, isInherited: tree.isInherited(inode), isOpaque: tree.isOpaque(inode) }
    const { segments, ...data } = tree.fileData(inode)
    const xattrs = tree.xattrs(inode).map(({ value }) => value.toString())
    return { ...described, ...data, segments: segments === undefined ? [] : [...segments], xattrs }
  }
}

/** The expected entry of a name, by its kind and number alone. */
function expectedOf(kind: Kind, number: number): unknown {
  const common = { isWhiteout: kind === 'whiteout', path: `${kind}-${number}` }
  if (kind === 'whiteout' || kind === 'removed') return common
  if (kind === 'twice') return { ...(expectedOf('file', number + 1) as object), path: common.path }
  const described = { ...common, mtimeSeconds: number, links: 1 }
  if (kind === 'link') return { ...described, mode: S_IFLNK | 0o777, target: `target-${number}` }
  if (kind === 'device') return { ...described, mode: S_IFCHR | 0o600, major: number % 4096, minor: number }
  if (kind === 'directory')
    return {
      ...described,
      mode: S_IFDIR | 0o700,
      isInherited: number % 2 === 0,
      isOpaque: number % 3 === 0,
    }
  return {
    ...described,
    mode: S_IFREG | 0o644,
    layer: number % 7,
    sizeBytes: number * 3,
    offset: number * 512,
    segments: kind === 'sparse' ? [number, 1] : [],
    xattrs: kind === 'xattrs' ? [`${number % 50}`] : [],
  }
}
