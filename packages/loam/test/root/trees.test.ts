// Trees as the kernel shows them: by every backend, from memory and from the metadata image, whichever backend comes first.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, test } from 'node:test'
import * as fc from 'fast-check'
import { type Loam, openLoam, type PullEvent } from '../../src/index.ts'
import { isErrno, isLoamError } from '../../src/errors/index.ts'
import { libc, readXattrs } from '../../src/linux/index.ts'
import { type BuildEntry, buildImage, buildTar, listTree, writeOciLayout } from '../../src/testing/index.ts'
import { applyLayer, FileTree } from '../../src/tree/index.ts'
import { denseLayer } from '../support/random-layers.ts'
import { checkXattrs } from '../../src/tree/xattr-rules.ts'
import { rounds } from '../support/rounds.ts'

type Layer = readonly (BuildEntry | string)[]
const toEntries = (layer: Layer) =>
  layer.map((entry) => (typeof entry === 'string' ? { name: entry } : entry))

const ORDERS = [
  ['overlay', 'erofs', 'copy'],
  ['erofs', 'overlay', 'copy'],
  ['copy', 'erofs', 'overlay'],
] as const

/** Layers, base first, and the names that they have to show. */
const CASES: Record<string, [layers: readonly Layer[], names: readonly string[]]> = {
  'a whiteout in a directory that is whited out': [
    [
      ['d/', 'd/x'],
      ['.wh.d', 'd/.wh.x'],
    ],
    [],
  ],
  'a directory that is whited out after a whiteout in it': [
    [
      ['d/', 'd/x'],
      ['d/.wh.x', '.wh.d'],
    ],
    [],
  ],
  'an opaque mark in a directory that is whited out': [
    [
      ['d/', 'd/x'],
      ['.wh.d', 'd/.wh..wh..opq'],
    ],
    [],
  ],
  'a whiteout below a file': [[['a'], ['a/.wh.x']], ['a']],
  'a whiteout below a symlink': [
    [['real/', 'real/y', { name: 'l', type: 'symlink', linkName: 'real' }], ['l/.wh.x']],
    ['l', 'real', 'real/y'],
  ],
  'whiteouts in directories that are nowhere': [
    [['a'], ['nodir/.wh.x', 'other/.wh..wh..opq', 'n/m/.wh.x']],
    ['a'],
  ],
  'a whiteout in a directory of the base': [[['n/', 'n/.wh.x', 'n/y']], ['n', 'n/y']],
  'a whiteout in a new directory': [
    [['a'], ['n/', 'n/.wh.x']],
    ['a', 'n'],
  ],
  'a hard link over layers that replaces a directory': [
    [['a', 't/', 't/x'], [{ name: 't', type: 'hardlink', linkName: 'a' }], ['t/', 't/y']],
    ['a', 't', 't/y'],
  ],
  'a directory that comes again after a file in its place': [
    [['d/', 'd/x'], ['d/.wh.x', { name: 'd', data: 'file' }], ['d/']],
    ['d'],
  ],
  'a whiteout in a directory that the same layer replaces': [
    [
      ['d/', 'd/x'],
      ['d/.wh.x', 'd'],
    ],
    ['d'],
  ],
  'a directory that the same layer replaces and makes again': [
    [
      ['d/', 'd/x'],
      ['d/.wh.x', 'd', { name: 'd/', mode: 0o700 }, 'd/x'],
    ],
    ['d', 'd/x'],
  ],
  'whiteouts of names of 252 to 255 bytes': [
    [
      [252, 253, 254, 255].map((bytes) => 'n'.repeat(bytes)),
      [252, 253, 254, 255].map((bytes) => `.wh.${'n'.repeat(bytes)}`),
    ],
    [],
  ],
  'whiteouts that are entry 64 and after': [
    [
      Array.from({ length: 300 }, (_none, index) => `f${index}`),
      Array.from({ length: 300 }, (_none, index) => `.wh.f${index}`),
    ],
    [],
  ],
  'a layer that comes again': [
    [
      ['a', 'd/', 'd/x'],
      ['.wh.a', 'd/.wh.x', 'b'],
      ['a', 'd/', 'd/x'],
    ],
    ['a', 'b', 'd', 'd/x'],
  ],
}

/** umoci 0.4.7 follows or refuses where Loam, as Docker and containerd, does not. */
const UMOCI_DIFFERS: Record<string, string> = {}

describe('every backend shows', () => {
  let folder: string
  let layout: string
  const images: Record<string, readonly Layer[]> = Object.fromEntries(
    Object.values(CASES).map(([layers], index) => [`case-${index}`, layers]),
  )
  /** In order of the backends, then by backend and image: the listings. */
  const shown = new Map<string, string[]>()

  before(async () => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-trees-')))
    layout = join(folder, 'layout')
    writeOciLayout(
      layout,
      Object.fromEntries(
        Object.entries(images).map(([tag, layers]) => [
          tag,
          buildImage({ tars: layers.map((layer) => buildTar(toEntries(layer))) }),
        ]),
      ),
    )
    for (const [index, order] of ORDERS.entries()) {
      const store = join(folder, `store-${index}`)
      const [first] = order
      // The first backend builds from the trees in memory, the others from the files of the store.
      await withStore(store, async (loam) => {
        for (const tag of Object.keys(images)) await keep(loam, `${index} memory ${first}`, first, tag)
      })
      await withStore(store, async (loam) => {
        for (const backend of order)
          for (const tag of Object.keys(images)) await keep(loam, `${index} index ${backend}`, backend, tag)
      })
    }
  })
  after(() => {
    rmSync(folder, { recursive: true, force: true })
  })

  async function withStore(root: string, use: (loam: Loam) => Promise<void>): Promise<void> {
    await using loam = await openLoam({ flags: { root, state: `${root}-state` }, file: null })
    try {
      await use(loam)
    } finally {
      for (const { id } of await loam.containers.list()) await loam.destroy(id)
    }
  }

  async function keep(loam: Loam, label: string, backend: string, tag: string): Promise<void> {
    const { rootfsPath } = await loam.provision(`oci:${layout}:${tag}`, { backend, id: `${backend}-${tag}` })
    shown.set(`${label} ${tag}`, listTree(rootfsPath))
  }

  for (const [index, [title, [, names]]] of Object.entries(CASES).entries()) {
    test(`every backend shows ${title} as the rules say, and alike`, () => {
      const found = [...shown].filter(([label]) => label.endsWith(` case-${index}`))
      assert.equal(found.length, ORDERS.length * 4)
      const expected = shown.get(`0 index copy case-${index}`)
      for (const [label, listing] of found) {
        assert.deepEqual(namesOf(listing), names, label)
        assert.deepEqual(withoutLinks(listing), withoutLinks(expected ?? []), label)
      }
    })

    test(`every backend shows ${title} as umoci does`, { skip: UMOCI_DIFFERS[title] }, () => {
      const bundle = join(folder, `bundle-${index}`)
      const { status, stderr } = spawnSync('umoci', ['unpack', '--image', `${layout}:case-${index}`, bundle])
      assert.equal(status, 0, String(stderr))
      assert.deepEqual(namesOf(listTree(join(bundle, 'rootfs'))), names)
    })
  }

  test('every backend shows random layers alike, whatever they require of each other', async () => {
    const runs = rounds(40, 5, 'LOAM_RUNS')
    const seed = process.env['LOAM_SEED'] === undefined ? 1 : Number(process.env['LOAM_SEED'])
    const stacks = fc
      .sample(fc.array(denseLayer, { minLength: 2, maxLength: 5 }), { numRuns: runs * 2, seed })
      // Now and then a layer is repeated.
      .map((layers, index) => (index % 3 === 0 ? [...layers, ...layers.slice(0, 1)] : layers))
      .filter((layers) => canMerge(layers.map(({ tree }) => tree)))
      .slice(0, runs)
    const random = join(folder, 'random')
    writeOciLayout(
      random,
      Object.fromEntries(
        stacks.map((layers, index) => [`r${index}`, buildImage({ tars: layers.map(({ tar }) => tar) })]),
      ),
    )
    await withStore(join(folder, 'random-store'), async (loam) => {
      for (const [index, layers] of stacks.entries()) {
        const listings: string[][] = []
        for (const backend of index % 2 === 0 ? ['overlay', 'erofs', 'copy'] : ['erofs', 'overlay', 'copy']) {
          const image = `oci:${random}:r${index}`
          const { rootfsPath } = await loam.provision(image, { backend, id: `${backend}-${index}` })
          listings.push(withoutLinks(listTree(rootfsPath)))
          await loam.destroy(`${backend}-${index}`)
        }
        const text = fc.stringify(layers)
        assert.deepEqual(listings[1], listings[0], text)
        assert.deepEqual(listings[2], listings[0], text)
      }
    })
  })

  test('every backend shows files without the xattrs that Linux does not accept, and says so once', async () => {
    const xattrs = { 'user.kept': 'k', 'com.apple.quarantine': 'q', 'system.nfs4_acl': 'n' }
    const entries: BuildEntry[] = [
      { name: './', xattrs },
      {
        name: 'd/',
        xattrs: { ...xattrs, 'security.capability': 'odd', 'system.posix_acl_default': 'garbage' },
      },
      { name: 'f', data: 'x', xattrs: { ...xattrs, 'user.large': Buffer.alloc(65_536) } },
      { name: 'l', type: 'symlink', linkName: 'f', xattrs: { ...xattrs, 'trusted.t': 't' } },
      { name: 'p', type: 'fifo', xattrs: { 'user.p': 'p', 'system.posix_acl_access': 'garbage' } },
      { name: 'n', type: 'character', deviceMajor: 1, deviceMinor: 3, xattrs: { 'user.n': 'n' } },
    ]
    const path = join(folder, 'xattrs')
    writeOciLayout(path, { odd: buildImage({ tars: [buildTar(entries)] }) })
    for (const order of ORDERS) {
      await withStore(join(folder, `xattrs-${order[0]}`), async (loam) => {
        const notes: PullEvent[] = []
        for (const backend of order) {
          const { rootfsPath } = await loam.provision(`oci:${path}:odd`, {
            backend,
            id: backend,
            onEvent: (event) => {
              if (event.kind === 'note') notes.push(event)
            },
          })
          const kept = ['', 'd', 'f', 'l', 'p', 'n'].map((name) =>
            readXattrs(Buffer.from(join(rootfsPath, name))).map(({ name: key }) => key.toString()),
          )
          assert.deepEqual(
            kept,
            [['user.kept'], ['user.kept'], ['user.kept'], ['trusted.t'], [], []],
            backend,
          )
        }
        assert.equal(notes.length, 1)
        assert.match(
          JSON.stringify(notes),
          /6 files without unsupported xattrs: .*com\.apple\.quarantine.*user\.n/,
        )
        assert.match(
          JSON.stringify(await loam.images.inspect(`oci:${path}:odd`)),
          /"leftOutXattrs":\[\{"diffId".*"files":6/,
        )
      })
    }
  })
})

describe('a store of an earlier generation', () => {
  let folder: string
  before(() => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-upgrade-')))
  })
  after(() => {
    rmSync(folder, { recursive: true, force: true })
  })

  test('a store of an earlier generation shows its layers correctly, and older containers keep their layers', async () => {
    const xattrs = { 'trusted.x': '1' }
    const layers = [
      [{ name: './', xattrs }, { name: 'd/' }, { name: 'd/x', data: 'x' }, { name: 'f', data: 'f' }],
      [{ name: '.wh.d' }, { name: 'd/.wh.x' }, { name: '.wh.f' }, { name: 'new' }],
    ].map(buildTar)
    const layout = join(folder, 'layout')
    writeOciLayout(layout, {
      // The artifacts that the earlier generation has built from the same layers.
      image: buildImage({ tars: layers }),
      wrong: buildImage({ tars: [buildTar([{ name: 'wrong' }]), buildTar([{ name: 'lost' }])] }),
    })
    const flags = { root: join(folder, 'store'), state: join(folder, 'state') }
    const image = `oci:${layout}:image`
    const { diffIds, chainId, wrong } = await withLoam(flags, async (loam) => {
      for (const backend of ['erofs', 'overlay', 'copy'] as const)
        await loam.provision(image, { backend, id: `before-${backend}` })
      await loam.provision(`oci:${layout}:wrong`, { backend: 'overlay', id: 'wrong' })
      await loam.provision(`oci:${layout}:wrong`, { backend: 'erofs', id: 'wrong' })
      const stackOf = async (id: string) =>
        (await loam.containers.list()).find((container) => container.id === id)?.rootfses[0]
      const stack = await stackOf('before-erofs')
      const other = await stackOf('wrong')
      assert.ok(stack?.chainId !== undefined && other?.chainId !== undefined)
      return {
        diffIds: stack.layers,
        chainId: stack.chainId,
        wrong: { diffIds: other.layers, chainId: other.chainId },
      }
    })
    age(flags.root, diffIds, chainId, wrong)
    await using loam = await openLoam({ flags, file: null })
    try {
      const report = await loam.store.fsck({ repair: false })
      assert.deepEqual(report.problems, [])
      const kept = (await loam.containers.list()).filter(({ id }) => id.startsWith('before-'))
      const shownBefore = kept.map(({ rootfses }) => listTree(rootfses[0]?.rootfsPath ?? ''))
      const shown: string[][] = []
      for (const backend of ['erofs', 'overlay', 'copy'] as const) {
        const { rootfsPath } = await loam.provision(image, { backend, id: `after-${backend}` })
        shown.push(listTree(rootfsPath))
      }
      for (const listing of shown) {
        assert.deepEqual(listing, shown[2])
        assert.deepEqual(namesOf(listing), ['new'])
        assert.match(listing[0] ?? '', /trusted\.x/, 'the summary is made again, too')
      }
      assert.deepEqual(
        kept.map(({ rootfses }) => listTree(rootfses[0]?.rootfsPath ?? '')),
        shownBefore,
      )
      for (const { id } of await loam.containers.list()) await loam.destroy(id)
      await loam.images.prune()
      const left = readdirSync(flags.root, { recursive: true, encoding: 'utf8' })
      assert.deepEqual(
        left.filter((path) => path.includes('outdated')),
        [],
      )
    } finally {
      for (const { id } of await loam.containers.list()) await loam.destroy(id)
    }
  })

  async function withLoam<T>(flags: Record<string, string>, use: (loam: Loam) => Promise<T>): Promise<T> {
    await using loam = await openLoam({ flags, file: null })
    return await use(loam)
  }

  /** Makes a store look as if an earlier generation had built everything except the tars, and built it wrong. */
  function age(
    root: string,
    diffIds: readonly string[],
    chainId: string,
    wrong: { readonly diffIds: readonly string[]; readonly chainId: string },
  ): void {
    for (const [index, diffId] of diffIds.entries()) {
      const from = join(root, 'layers', wrong.diffIds[index] ?? '')
      copyFileSync(join(from, 'layer.erofs'), join(root, 'layers', diffId, 'layer.erofs'))
      writeFileSync(join(root, 'layers', diffId, 'fs', 'stale'), '')
    }
    copyFileSync(
      join(root, 'images', wrong.chainId, 'merged.erofs'),
      join(root, 'images', chainId, 'merged.erofs.new'),
    )
    renameSync(
      join(root, 'images', chainId, 'merged.erofs.new'),
      join(root, 'images', chainId, 'merged.erofs'),
    )
    using database = new DatabaseSync(join(root, 'metadata.db'))
    database.exec('UPDATE artifacts SET generation = 1, is_durable = 1')
    const rows = database.prepare('SELECT diff_id, summary FROM layers').all()
    for (const { diff_id: diffId, summary } of rows) {
      const { generation: _none, ...rest } = JSON.parse(String(summary)) as Record<string, unknown>
      const old = { ...rest, hasWhiteouts: false, hasOddXattrs: true, root: undefined }
      database
        .prepare('UPDATE layers SET summary = ? WHERE diff_id = ?')
        .run(JSON.stringify(old), diffId ?? '')
    }
  }
})

function namesOf(listing: readonly string[]): string[] {
  return listing
    .map((line) => String(JSON.parse(/^"(?:[^"\\]|\\.)*"/.exec(line)?.[0] ?? '""')))
    .filter((name) => name !== '')
}

/** Hard links are known by their names; overlayfs counts those in the layers. */
function withoutLinks(listing: readonly string[]): string[] {
  const groups = new Map<string, number>()
  const groupOf = (line: string) => / same=(.*)$/.exec(line)?.[1]
  for (const line of listing) {
    const group = groupOf(line)
    if (group !== undefined) groups.set(group, (groups.get(group) ?? 0) + 1)
  }
  return listing.map((line) =>
    (groups.get(groupOf(line) ?? '') ?? 0) > 1 ? line : line.replace(/ same=.*$/, ''),
  )
}

function canMerge(trees: readonly FileTree[]): boolean {
  try {
    const merged = new FileTree()
    for (const [index, tree] of trees.entries()) applyLayer(merged, tree, index)
    return true
  } catch (error) {
    if (isLoamError(error, 'TAR_INVALID')) return false
    throw error
  }
}

describe('the xattrs that Loam keeps', () => {
  let folder: string
  before(() => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-xattrs-')))
  })
  after(() => {
    rmSync(folder, { recursive: true, force: true })
  })

  const acl = (...entries: readonly (readonly [tag: number, permissions: number, id: number])[]) => {
    const bytes = Buffer.alloc(4 + entries.length * 8)
    bytes.writeUInt32LE(2, 0)
    for (const [index, [tag, permissions, id]] of entries.entries()) {
      bytes.writeUInt16LE(tag, 4 + index * 8)
      bytes.writeUInt16LE(permissions, 6 + index * 8)
      bytes.writeUInt32LE(id, 8 + index * 8)
    }
    return bytes
  }
  const none = 0xffffffff
  const capability = (hex: string) => Buffer.from(hex, 'hex')
  const VALUES: readonly (readonly [name: string, value: Buffer])[] = [
    ...[
      'user.a',
      'trusted.a',
      'security.a',
      'system.a',
      'com.apple.x',
      'user.',
      'trusted.',
      `user.${'n'.repeat(250)}`,
      `user.${'n'.repeat(251)}`,
    ].map((name) => [name, Buffer.from('x')] as const),
    ...[
      '0100000200200000000000000000000000000000',
      '010000030020000000000000000000000000000001000000',
      '0100000300200000000000000000000000000000ffffffff',
      '010000010020000000000000',
      '02000002002000000000000000000000000000',
      '',
    ].map((hex) => ['security.capability', capability(hex)] as const),
    ...['system.posix_acl_access', 'system.posix_acl_default'].flatMap((name) =>
      [
        acl([1, 6, none], [2, 7, 5], [4, 4, none], [16, 4, none], [32, 4, none]),
        acl([1, 6, none], [4, 4, none], [32, 4, none]),
        acl([1, 6, none], [2, 7, 5], [4, 4, none], [32, 4, none]),
        acl([1, 6, none], [4, 4, none]),
        acl([32, 4, none], [4, 4, none], [1, 6, none]),
        acl([1, 6, none], [2, 7, none], [4, 4, none], [16, 4, none], [32, 4, none]),
        acl([1, 6, 9], [2, 7, 5], [2, 7, 5], [4, 4, 9], [8, 1, 0], [16, 4, 9], [32, 4, 9]),
        acl([1, 9, none], [4, 4, none], [32, 4, none]),
        acl(),
        Buffer.alloc(0),
        Buffer.from('garbage'),
      ].map((value) => [name, value] as const),
    ),
  ]

  test('the xattrs that Loam keeps are those that the kernel accepts', () => {
    let count = 0
    for (const type of ['file', 'directory', 'symlink', 'fifo', 'device'] as const) {
      for (const [name, value] of VALUES) {
        const path = join(folder, `${type}-${(count += 1)}`)
        make(type, path)
        const label = `${type} ${name.slice(0, 40)} ${value.toString('hex')}`
        const mode = type === 'symlink' ? 0o120777 : (lstatSync(path).mode & 0o170000) | 0o644
        const kept = checkXattrs([{ name: Buffer.from(name), value }], mode).kept
        const isTaken = trySet(path, name, value)
        if (type !== 'symlink') libc().fchmodat(-100, Buffer.from(`${path}\0`), 0o644, 0)
        assert.deepEqual(
          valuesOf(path),
          kept.map((xattr) => xattr.value.toString('hex')),
          `${label}: ${isTaken ? 'taken' : 'refused'}`,
        )
      }
    }
  })

  function make(type: 'file' | 'directory' | 'symlink' | 'fifo' | 'device', path: string): void {
    const name = Buffer.from(`${path}\0`)
    if (type === 'file') writeFileSync(path, '')
    else if (type === 'directory') mkdirSync(path)
    else if (type === 'symlink') symlinkSync('nowhere', path)
    else libc().mknodat(-100, name, type === 'fifo' ? 0o010600 : 0o020600, type === 'fifo' ? 0n : 259n)
  }

  /** An empty capability is accepted and can never be read. */
  function valuesOf(path: string): string[] {
    try {
      return readXattrs(Buffer.from(path)).map((xattr) => xattr.value.toString('hex'))
    } catch (error) {
      if (isErrno(error, 'EINVAL')) return []
      throw error
    }
  }

  function trySet(path: string, name: string, value: Buffer): boolean {
    try {
      libc().lsetxattr(Buffer.from(`${path}\0`), Buffer.from(`${name}\0`), value, value.length, 0)
      return true
    } catch (error) {
      if (isErrno(error, 'EPERM', 'EACCES', 'EINVAL', 'EOPNOTSUPP', 'ENOTSUP', 'ERANGE')) return false
      throw error
    }
  }
})
