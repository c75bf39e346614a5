import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { isLoamError } from '../errors/index.ts'
import { TarReader } from '../tar/index.ts'
import { type BuildEntry, buildTar } from '../testing/index.ts'
import {
  applyLayer,
  DEFAULT_LAYER_LIMITS,
  FileTree,
  LayerTreeBuilder,
  NONE,
  ROOT,
  summarizeLayer,
} from './index.ts'

function layer(...entries: readonly (BuildEntry | string)[]): FileTree {
  const builder = new LayerTreeBuilder()
  const reader = new TarReader((entry) => {
    builder.add(entry)
  })
  reader.write(buildTar(entries.map((entry) => (typeof entry === 'string' ? { name: entry } : entry))))
  reader.end()
  return builder.tree
}

function merge(...layers: readonly FileTree[]): FileTree {
  const merged = new FileTree()
  for (const [index, tree] of layers.entries()) applyLayer(merged, tree, index)
  return merged
}

/** Names and modes of a tree, sorted; directories end in a slash. */
function names(tree: FileTree): string[] {
  const found: string[] = []
  for (let entry = 0; entry < tree.entryCount; entry += 1) {
    const inode = tree.entryInode(entry)
    if (inode !== NONE)
      found.push(`${tree.entryPath(entry).toString('latin1')}${tree.isDirectory(inode) ? '/' : ''}`)
  }
  return found.toSorted()
}

const refuses = (act: () => unknown, ...codes: readonly ('TAR_UNSAFE' | 'TAR_INVALID' | 'LAYER_LIMIT')[]) => {
  assert.throws(act, (error) => isLoamError(error, ...codes))
}

describe('a layer', () => {
  test('a layer resolves names within the root', () => {
    assert.deepEqual(names(layer('/abs', './dot', 'a//b', 'a/./c', 'a/x/../d')), [
      'a/',
      'a/b',
      'a/c',
      'a/d',
      'abs',
      'dot',
    ])
  })

  const hostile: Record<string, (BuildEntry | string)[]> = {
    'a name that climbs out': ['../x'],
    'a name that climbs out deep inside': ['a/../../x'],
    'a file in the place of the root': [{ name: './', type: 'symlink', linkName: '/etc' }],
    'a root made by dots': [{ name: 'a/..', type: 'symlink', linkName: '/' }],
    'a hard link that climbs out': [{ name: 'l', type: 'hardlink', linkName: '../../etc/shadow' }],
    'a hard link to a directory': ['d/', { name: 'l', type: 'hardlink', linkName: 'd' }],
    'an entry below a file': ['f', 'f/x'],
    'symlinks that lead to each other': [
      { name: 'a', type: 'symlink', linkName: 'b' },
      { name: 'b', type: 'symlink', linkName: 'a' },
      'a/x',
    ],
    'a whiteout of nothing': ['.wh.'],
    'a whiteout of the parent': ['d/.wh...'],
    'a whiteout that is a directory': ['.wh.x/'],
    'a whiteout of a name longer than Linux has': [`.wh.${'n'.repeat(256)}`],
    'an opaque mark that is a directory': ['d/.wh..wh..opq/'],
    'a hard link below the name that it links to': ['f', { name: 'f/y', type: 'hardlink', linkName: 'f' }],
    'a hard link below the name that it links to, which another layer has': [
      { name: 'x/y', type: 'hardlink', linkName: 'x' },
    ],
    'a symlink without a target': [{ name: 'l', type: 'symlink', linkName: '' }],
    'an owner that would become root': [{ name: 'f', uid: 2 ** 32 }],
    'an owner that means nobody': [{ name: 'f', gid: 2 ** 32 - 1 }],
    'a device out of range': [{ name: 'n', type: 'character', deviceMajor: 5000, deviceMinor: 1 }],
    'a name longer than Linux has': ['n'.repeat(256)],
  }
  for (const [name, entries] of Object.entries(hostile)) {
    test(`a layer refuses ${name}`, () => {
      refuses(() => layer(...entries), 'TAR_UNSAFE')
    })
  }

  test('a layer follows its own symlinks inside of the root, wherever they point', () => {
    const tree = layer(
      { name: 'lib', type: 'symlink', linkName: 'usr/lib' },
      'lib/a',
      { name: 'out', type: 'symlink', linkName: '../../../etc' },
      'out/b',
      { name: 'usr/abs', type: 'symlink', linkName: '/var' },
      'usr/abs/c',
    )
    assert.deepEqual(names(tree), [
      'etc/',
      'etc/b',
      'lib',
      'out',
      'usr/',
      'usr/abs',
      'usr/lib/',
      'usr/lib/a',
      'var/',
      'var/c',
    ])
  })

  test('a later entry of a layer wins, and a hard link keeps its file', () => {
    const tree = layer(
      { name: 'f', data: 'old', mode: 0o600 },
      { name: 'l', type: 'hardlink', linkName: 'f' },
      { name: 'f', data: 'newer', mode: 0o640 },
      { name: 'l', type: 'hardlink', linkName: 'l' },
    )
    const [f, l] = ['f', 'l'].map((name) => tree.find(ROOT, Buffer.from(name)))
    assert.deepEqual([tree.fileData(f ?? 0).sizeBytes, tree.fileData(l ?? 0).sizeBytes], [5, 3])
    assert.deepEqual([tree.linkCount(f ?? 0), tree.linkCount(l ?? 0)], [1, 1])
    assert.deepEqual(names(layer('d/', 'd/x', { name: 'd', type: 'symlink', linkName: 'y' })), ['d'])
  })

  test('a whiteout below a file of its own layer does nothing, in any order', () => {
    const lower = layer('f/x')
    for (const mark of ['f/.wh.x', 'f/.wh..wh..opq', 'f/d/.wh.x']) {
      assert.deepEqual(names(merge(lower, layer('f', mark))), ['f'], mark)
      assert.deepEqual(names(merge(lower, layer(mark, 'f'))), ['f'], mark)
    }
    const device: BuildEntry = { name: 'f', type: 'character', deviceMajor: 1, deviceMinor: 3 }
    assert.deepEqual(names(merge(lower, layer(device, 'f/.wh.x'))), ['f'])
    const throughLink = layer('f', { name: 'l', type: 'symlink', linkName: 'f' }, 'l/.wh.x')
    assert.deepEqual(names(merge(lower, throughLink)), ['f', 'l'])
  })

  test('a layer resolves the target of a hard link below its own symlinks, also one that a lower layer has', () => {
    const lower = layer({ name: 'l/f', data: 'wrong' }, { name: 'd/e/f', data: 'it' })
    for (const link of ['d/e', '/d/e', '../d/e']) {
      const upper = layer(
        { name: 'l', type: 'symlink', linkName: link },
        { name: 'g', type: 'hardlink', linkName: 'l/f' },
      )
      const tree = merge(lower, upper)
      const inode = tree.find(ROOT, Buffer.from('g'))
      assert.equal(tree.fileData(inode).sizeBytes, 2, link)
      assert.equal(tree.linkCount(inode), 2, link)
    }
  })

  test("a layer leaves out AUFS's own files and directories", () => {
    const tree = layer(
      ...['d/', '.wh..wh.aufs', '.wh..wh.orph/', '.wh..wh.plnk/', '.wh..wh.plnk/1.2', 'd/.wh..wh.plnk'],
    )
    assert.deepEqual(names(tree), ['d/'])
  })

  test('a layer ignores whiteouts in a directory that it has replaced', () => {
    const tree = layer('d/.wh.x', 'd', 'e/in/.wh.x', { name: 'e', type: 'symlink', linkName: 'd' })
    const { hasWhiteouts } = summarizeLayer(tree)
    assert.equal(hasWhiteouts, false)
    assert.deepEqual(names(merge(layer('d/', 'd/x'), tree, layer('d/'))), ['d/', 'e'])
  })

  test('a hard link below its own target is reported', () => {
    const linked = () => layer({ name: 'x/y/z', type: 'hardlink', linkName: './x/y' })
    assert.throws(linked, /"x\/y\/z": its target "\.\/x\/y" is a part of its own path/)
    assert.throws(
      () => layer('d/', { name: 'l', type: 'hardlink', linkName: 'd' }),
      /target "d" is a directory/,
    )
  })

  test('a layer has limits for entries, file sizes and xattrs', () => {
    const limited =
      (limits: Partial<typeof DEFAULT_LAYER_LIMITS>, ...entries: readonly BuildEntry[]) =>
      () => {
        const builder = new LayerTreeBuilder({ ...DEFAULT_LAYER_LIMITS, ...limits })
        const reader = new TarReader((entry) => {
          builder.add(entry)
        })
        reader.write(buildTar(entries))
      }
    refuses(limited({ entries: 1 }, { name: 'a' }, { name: 'b' }), 'LAYER_LIMIT')
    refuses(limited({}, { name: 'huge', sizeBytes: 2 ** 50 }), 'LAYER_LIMIT')
    refuses(limited({ xattrBytes: 10 }, { name: 'x', xattrs: { 'user.a': 'x'.repeat(20) } }), 'LAYER_LIMIT')
  })

  test('a layer reports its requirements for a stack', () => {
    const summary = summarizeLayer(
      layer(
        'a/b',
        { name: '.wh..wh..opq' },
        { name: 'l', type: 'hardlink', linkName: 'below' },
        { name: 'n', type: 'character' },
      ),
    )
    const { hasOpaqueRoot, hasImplicitDirectories, hasLowerLinks, hasZeroDevices, hasWhiteouts, root } =
      summary
    assert.deepEqual(
      [hasOpaqueRoot, hasImplicitDirectories, hasLowerLinks, hasZeroDevices, hasWhiteouts, root],
      [true, true, true, true, true, undefined],
    )
  })
})

describe('merging', () => {
  const base = () => layer('d/', 'd/old', 'f', 'e/', 'e/x', 'e/y')

  const cases: Record<string, [FileTree[], string[]]> = {
    'a whiteout removes a file': [
      [base(), layer('.wh.f')],
      ['d/', 'd/old', 'e/', 'e/x', 'e/y'],
    ],
    'a whiteout removes a directory': [
      [base(), layer('.wh.d')],
      ['e/', 'e/x', 'e/y', 'f'],
    ],
    'a whiteout before its own directory leaves the new one alone': [
      [base(), layer('.wh.d', 'd/', 'd/new')],
      ['d/', 'd/new', 'e/', 'e/x', 'e/y', 'f'],
    ],
    'a whiteout after its own directory leaves the new one alone': [
      [base(), layer('d/', 'd/new', '.wh.d')],
      ['d/', 'd/new', 'e/', 'e/x', 'e/y', 'f'],
    ],
    'a whiteout beside its own file leaves the file': [
      [base(), layer('f', '.wh.f')],
      ['d/', 'd/old', 'e/', 'e/x', 'e/y', 'f'],
    ],
    'an opaque mark hides lower layers and not its own layer': [
      [base(), layer('e/z', 'e/.wh..wh..opq')],
      ['d/', 'd/old', 'e/', 'e/z', 'f'],
    ],
    'an opaque root hides everything': [[base(), layer('only', '.wh..wh..opq')], ['only']],
    'a whiteout of nothing makes nothing': [
      [base(), layer('nowhere/.wh.x', 'deep/in/nowhere/.wh.x')],
      ['d/', 'd/old', 'e/', 'e/x', 'e/y', 'f'],
    ],
    'an opaque mark of nothing makes nothing': [
      [base(), layer('nowhere/.wh..wh..opq')],
      ['d/', 'd/old', 'e/', 'e/x', 'e/y', 'f'],
    ],
    'a whiteout below a file or symlink leaves that alone': [
      [
        layer('f', { name: 'l', type: 'symlink', linkName: 'real' }),
        layer('f/.wh.x', 'l/.wh.x', 'l/d/.wh..wh..opq'),
      ],
      ['f', 'l'],
    ],
    'a whiteout in a directory that is whited out does not bring it back': [
      [base(), layer('.wh.d', 'd/.wh.old'), layer('e/.wh.x', '.wh.e'), layer('.wh.f', 'f/.wh..wh..opq')],
      [],
    ],
    'a whiteout beside a file in an unlisted directory that is whited out leaves the file': [
      [base(), layer('.wh.e', 'e/in/.wh.x', 'e/in/new')],
      ['d/', 'd/old', 'e/', 'e/in/', 'e/in/new', 'f'],
    ],
    'an opaque mark alone empties a directory and leaves it': [
      [base(), layer('e/.wh..wh..opq')],
      ['d/', 'd/old', 'e/', 'f'],
    ],
    'a whiteout of a name of 255 bytes hides it': [
      [
        layer('n'.repeat(255), `d/${'m'.repeat(252)}`),
        layer(`.wh.${'n'.repeat(255)}`, `d/.wh.${'m'.repeat(252)}`),
      ],
      ['d/'],
    ],
    'a file replaces a directory': [
      [base(), layer('d')],
      ['d', 'e/', 'e/x', 'e/y', 'f'],
    ],
    'a directory replaces a file': [
      [base(), layer('f/', 'f/x')],
      ['d/', 'd/old', 'e/', 'e/x', 'e/y', 'f/', 'f/x'],
    ],
    'an unlisted directory replaces a symlink of a lower layer': [
      [layer({ name: 'l', type: 'symlink', linkName: '/etc' }), layer('l/x')],
      ['l/', 'l/x'],
    ],
    'a layer that comes again wins again': [
      [layer('a'), layer('.wh.a', 'b'), layer('a')],
      ['a', 'b'],
    ],
  }
  for (const [name, [layers, expected]] of Object.entries(cases)) {
    test(name, () => {
      assert.deepEqual(names(merge(...layers)), expected)
    })
  }

  test('a directory that a layer does not list keeps its attributes', () => {
    const merged = merge(layer({ name: 'd/', mode: 0o750, uid: 7 }), layer('d/new'))
    const { mode, uid } = merged.attributes(merged.find(ROOT, Buffer.from('d')))
    assert.deepEqual([mode & 0o7777, uid], [0o750, 7])
  })

  test('a hard link over layers is one file, also when its target is removed in the same layer', () => {
    const merged = merge(layer('f', 'g'), layer('.wh.f', { name: 'l', type: 'hardlink', linkName: 'f' }))
    assert.deepEqual(names(merged), ['g', 'l'])
    refuses(
      () => merge(layer('f'), layer({ name: 'l', type: 'hardlink', linkName: 'nowhere' })),
      'TAR_INVALID',
    )
  })

  test('a hard link finds a file of a lower layer, though a whiteout below its name comes first', () => {
    const merged = merge(layer('f'), layer('f/.wh.x', { name: 'l', type: 'hardlink', linkName: 'f' }))
    assert.deepEqual(names(merged), ['f', 'l'])
    assert.equal(merged.linkCount(merged.find(ROOT, Buffer.from('l'))), 2)
  })

  test('a stack refuses more layers than the number of a layer has room for', () => {
    refuses(() => {
      applyLayer(new FileTree(), layer('f'), 65_536)
    }, 'LAYER_LIMIT')
  })

  test('merging equals a plain model for random layers', () => {
    const name = fc.constantFrom('a', 'b', 'a/a', 'a/b', 'b/a', 'a/a/a')
    const change = fc.oneof(fc.record({ kind: fc.constantFrom('file', 'directory', 'whiteout'), name }))
    fc.assert(
      fc.property(
        fc.array(fc.uniqueArray(change, { selector: ({ name: key }) => key, maxLength: 5 }), {
          maxLength: 4,
        }),
        (layers) => {
          const consistent = layers.map((changes) =>
            changes.filter(
              ({ name: own }) =>
                !changes.some((other) => other.kind === 'file' && own.startsWith(`${other.name}/`)),
            ),
          )
          const trees = consistent.map((changes) =>
            layer(
              ...changes.map(({ kind, name: own }) =>
                kind === 'whiteout'
                  ? own.replace(/([^/]+)$/, '.wh.$1')
                  : kind === 'directory'
                    ? `${own}/`
                    : own,
              ),
            ),
          )
          assert.deepEqual(names(merge(...trees)), model(consistent))
        },
      ),
      { numRuns: 300 },
    )
  })
})

/** The layer rules once more, as simply as possible: a map from path to whether it is a directory. */
function model(layers: readonly (readonly { kind: string; name: string }[])[]): string[] {
  let files = new Map<string, boolean>()
  const below = (path: string) => (other: string) => other === path || other.startsWith(`${path}/`)
  for (const changes of layers) {
    const hidden = changes.filter(({ kind }) => kind === 'whiteout').map(({ name }) => below(name))
    files = new Map([...files].filter(([path]) => !hidden.some((hides) => hides(path))))
    const put = (path: string, isDirectory: boolean) => {
      const parent = path.split('/').slice(0, -1).join('/')
      if (parent !== '') put(parent, true)
      if (!isDirectory || files.get(path) === false)
        for (const other of [...files.keys()].filter(below(path))) files.delete(other)
      files.set(path, isDirectory)
    }
    for (const { kind, name } of changes) if (kind !== 'whiteout') put(name, kind === 'directory')
  }
  return [...files].map(([path, isDirectory]) => `${path}${isDirectory ? '/' : ''}`).toSorted()
}

describe('memory', () => {
  test('a million files take less than 250 bytes each beyond their names', () => {
    const tree = new FileTree()
    const attributes = { mode: 0o100644, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanoseconds: 0 }
    const count = 1_000_000
    let directory = ROOT
    for (let index = 0; index < count; index += 1) {
      if (index % 1000 === 0) {
        directory = tree.createDirectory(ROOT)
        tree.setEntry(ROOT, Buffer.from(`directory-${index}`), directory)
      }
      const inode = tree.createFile(attributes, {
        layer: 0,
        sizeBytes: index,
        offset: index * 512,
        segments: undefined,
      })
      tree.setEntry(directory, Buffer.from(`file-${index}`), inode)
    }
    const perFile = (tree.heldBytes - tree.nameBytes) / count
    assert.ok(perFile < 250, `${perFile} bytes a file`)
    assert.notEqual(tree.find(directory, Buffer.from(`file-${count - 1}`)), NONE)
  })
})
