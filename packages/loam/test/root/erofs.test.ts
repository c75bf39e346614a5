// Images that the kernel mounts: random trees, and the limits of the format.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  closeSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  realpathSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import * as fc from 'fast-check'
import { ErofsImage, type ErofsOptions, writeErofs } from '../../src/erofs/index.ts'
import { mountErofs, readXattrs, unmountAll } from '../../src/linux/index.ts'
import { listTree } from '../../src/testing/index.ts'
import { applyLayer, FileTree, type Inode, ROOT, S_IFDIR, S_IFREG } from '../../src/tree/index.ts'
import { isLoamError } from '../../src/errors/index.ts'
import { fsckErofs } from '../support/fsck-erofs.ts'
import { randomLayer } from '../support/random-layers.ts'
import { readDeviceTags } from '../../src/layers/device-table.ts'
import { writeTree } from '../../src/transform/write-tree.ts'
import { rounds } from '../support/rounds.ts'

const folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-erofs-')))
after(() => {
  unmountAll(folder)
  rmSync(folder, { recursive: true })
})
let count = 0
const newPath = (label: string) => join(folder, `${(count += 1)}-${label}`)

function writeImage(tree: FileTree, tars: readonly string[], data: ErofsOptions['data']): string {
  const path = newPath(`${data}.erofs`)
  const fd = openSync(path, 'wx')
  const fds = tars.map((tar) => openSync(tar, 'r'))
  writeErofs(tree, {
    data,
    contents: 'merged',
    layers: tars.map((tar) => ({ tag: tar.slice(-60), sizeBytes: lstatSync(tar).size })),
    readData: (layer, offset, target) => {
      assert.equal(readSync(fds[layer] ?? -1, target, 0, target.length, offset), target.length)
    },
    write: (chunk) => {
      writeSync(fd, chunk)
    },
  })
  for (const each of [fd, ...fds]) closeSync(each)
  return path
}

/** Mounts an image while a function runs. */
function withMount<T>(
  image: string,
  devices: readonly string[],
  by: 'file' | 'loop',
  act: (path: string) => T,
): T {
  const target = newPath('mount')
  mkdirSync(target)
  mountErofs({ image, devices, target, by })
  try {
    return act(target)
  } finally {
    unmountAll(target)
  }
}

function mergeOne(layer: FileTree): FileTree | undefined {
  try {
    const merged = new FileTree()
    applyLayer(merged, layer, 0)
    return merged
  } catch (error) {
    if (isLoamError(error, 'TAR_INVALID')) return undefined
    throw error
  }
}

const FILE = { uid: 0, gid: 0, mtimeSeconds: 1_700_000_000, mtimeNanoseconds: 7, mode: S_IFREG | 0o644 }
const DIRECTORY = { ...FILE, mode: S_IFDIR | 0o755 }
const data = (offset: number, sizeBytes: number, layer = 0) => ({
  layer,
  offset,
  sizeBytes,
  segments: undefined,
})

function addFile(
  tree: FileTree,
  parent: Inode,
  name: string,
  place: readonly [offset: number, sizeBytes: number],
): Inode {
  const inode = tree.createFile(FILE, data(...place))
  tree.setEntry(parent, Buffer.from(name), inode)
  return inode
}

/** A file in place of a tar: every block begins with its number. */
function createBlocks(blocks: number): string {
  const path = newPath('blocks')
  const bytes = Buffer.alloc(blocks * 512)
  for (let block = 0; block < blocks; block += 1) bytes.writeUInt32LE(block, block * 512)
  writeFileSync(path, bytes)
  return path
}

describe('EROFS images in the kernel', () => {
  test('random trees are the same in EROFS and by the copy backend', () => {
    fc.assert(
      fc.property(randomLayer, ({ tree, tar }) => {
        const merged = mergeOne(tree)
        if (merged === undefined) return
        const tarPath = newPath('tar')
        writeFileSync(tarPath, tar)
        const target = newPath('plain')
        mkdirSync(target)
        const layer = { diffId: 'sha256:0' as never, tarPath, metaPath: undefined, clonePath: undefined }
        writeTree(merged, { target, layers: [layer], whiteouts: 'none' })
        const expected = listTree(target)
        const overTar = writeImage(merged, [tarPath], 'tar')
        const disk = writeImage(merged, [tarPath], 'disk')
        assert.deepEqual(withMount(disk, [], 'file', listTree), expected)
        // A tree without data has no device.
        const devices = readDeviceTags(overTar).map(() => tarPath)
        assert.deepEqual(withMount(overTar, devices, 'file', listTree), expected)
        fsckErofs(disk, [])
        fsckErofs(overTar, devices)
        for (const path of [tarPath, target, overTar, disk]) rmSync(path, { recursive: true })
      }),
      { numRuns: rounds(40, 5, 'LOAM_RUNS') },
    )
  })

  test('EROFS images by loop devices show the same, and the devices are removed with the mount', () => {
    const tree = new FileTree()
    const tars = [createBlocks(16), createBlocks(32)]
    addFile(tree, ROOT, 'first', [512, 1000])
    tree.setEntry(ROOT, Buffer.from('second'), tree.createFile(FILE, data(1024, 600, 1)))
    const image = writeImage(tree, tars, 'tar')
    const loops = () => spawnSync('losetup', ['-l', '-n', '-O', 'BACK-FILE'], { encoding: 'utf8' }).stdout
    const [byFile, byLoop] = (['file', 'loop'] as const).map((by) =>
      withMount(image, tars, by, (path) => {
        assert.equal(loops().includes(folder), by === 'loop')
        return listTree(path)
      }),
    )
    assert.deepEqual(byLoop, byFile)
    assert.equal(loops().includes(folder), false)
    const target = newPath('mount')
    mkdirSync(target)
    assert.throws(() => mountErofs({ image, devices: tars.slice(1), target, by: 'loop' }))
    assert.equal(loops().includes(folder), false)
  })

  test('an EROFS image has 3,000 files with xattrs of their own of 1,100 bytes, and a file with 300', () => {
    const tar = createBlocks(4)
    const tree = new FileTree()
    const xattr = (name: string, value: Buffer) => ({ name: Buffer.from(name), value })
    for (let index = 0; index < 3000; index += 1) {
      const file = addFile(tree, ROOT, `file-${index}`, [512, 100])
      tree.setXattrs(file, [xattr('user.a', Buffer.alloc(1100, String(index)))])
    }
    const many = Array.from({ length: 300 }, (_none, index) =>
      xattr(`user.${index}`, Buffer.alloc(index * 10, index)),
    )
    tree.setXattrs(addFile(tree, ROOT, 'many', [512, 100]), many)
    tree.setXattrs(ROOT, [xattr('trusted.root', Buffer.alloc(2000, 'r'))])
    for (const [kind, devices] of [
      ['tar', [tar]],
      ['disk', []],
    ] as const) {
      const image = writeImage(tree, [tar], kind)
      withMount(image, devices, 'file', (path) => {
        const of = (name: string) =>
          readXattrs(Buffer.from(join(path, name))).toSorted((a, b) => a.name.compare(b.name))
        assert.deepEqual(of('file-2999'), [xattr('user.a', Buffer.alloc(1100, '2999'))])
        assert.deepEqual(of('many'), tree.xattrs(tree.find(ROOT, Buffer.from('many'))))
        assert.deepEqual(of('.'), tree.xattrs(ROOT))
      })
      fsckErofs(image, devices)
    }
  })

  test('an EROFS image has a directory of 200,000 names, and names of 255 bytes', () => {
    const tar = createBlocks(4)
    const tree = new FileTree()
    const many = tree.createDirectory(ROOT, DIRECTORY)
    tree.setEntry(ROOT, Buffer.from('many'), many)
    for (let index = 0; index < 200_000; index += 1) addFile(tree, many, `file-${index}`, [512, index % 512])
    const long = tree.createDirectory(ROOT, DIRECTORY)
    tree.setEntry(ROOT, Buffer.from('long'), long)
    for (let index = 0; index < 2000; index += 1)
      addFile(tree, long, String(index).padStart(255, 'n'), [1024, 4])
    for (const kind of ['tar', 'disk'] as const) {
      withMount(writeImage(tree, [tar], kind), kind === 'tar' ? [tar] : [], 'file', (path) => {
        assert.equal(readdirSync(join(path, 'many')).length, 200_000)
        for (const index of [0, 1, 511, 99_999, 199_999]) {
          assert.equal(lstatSync(join(path, `many/file-${index}`)).size, index % 512)
        }
        assert.equal(existsSync(join(path, 'many/file-200000')), false)
        const names = readdirSync(join(path, 'long'))
        assert.deepEqual([names.length, names[0]?.length], [2000, 255])
        for (const name of names) assert.equal(readFileSync(join(path, 'long', name)).readUInt32LE(), 2)
      })
    }
  })

  test('an EROFS image has xattrs of 64 KiB, one and many, shared and not', () => {
    const tree = new FileTree()
    const set = (seed: number) =>
      [
        ...Array.from({ length: 300 }, (_none, index) => ({
          name: Buffer.from(`user.${index}`),
          value: Buffer.alloc(200, seed + index),
        })),
        { name: Buffer.from('trusted.large'), value: Buffer.alloc(65_000, seed) },
      ].toSorted((a, b) => a.name.compare(b.name))
    const sets = [set(1), set(2)]
    for (const [index, which] of [0, 1, 1].entries()) {
      tree.setXattrs(addFile(tree, ROOT, `file-${index}`, [0, 0]), sets[which] ?? [])
    }
    for (const kind of ['tar', 'disk'] as const) {
      withMount(writeImage(tree, [], kind), [], 'file', (path) => {
        for (const [index, which] of [0, 1, 1].entries()) {
          const found = readXattrs(Buffer.from(join(path, `file-${index}`))).toSorted((a, b) =>
            a.name.compare(b.name),
          )
          assert.deepEqual(found, sets[which])
        }
      })
    }
  })

  test('an EROFS image has a million files in 500 devices', () => {
    const tars = Array.from({ length: 500 }, () => createBlocks(2))
    const tree = new FileTree()
    for (let directory = 0; directory < 1000; directory += 1) {
      const inode = tree.createDirectory(ROOT, DIRECTORY)
      tree.setEntry(ROOT, Buffer.from(`d${directory}`), inode)
      for (let file = 0; file < 1000; file += 1) {
        tree.setEntry(
          inode,
          Buffer.from(`f${file}`),
          tree.createFile(FILE, data(512, 1 + (file % 300), directory % 500)),
        )
      }
    }
    const image = writeImage(tree, tars, 'tar')
    withMount(image, tars, 'file', (path) => {
      let files = 0
      for (const directory of readdirSync(path)) {
        const names = readdirSync(join(path, directory))
        files += names.length
        const name = names[Number(directory.slice(1)) % 1000] ?? ''
        const { size } = lstatSync(join(path, directory, name))
        assert.equal(size, 1 + (Number(name.slice(1)) % 300))
        assert.equal(readFileSync(join(path, directory, name))[0], 1)
      }
      assert.equal(files, 1_000_000)
    })
    // Two blocks of names, 64 bytes of attributes and 8 of place for each.
    assert.ok(lstatSync(image).size < 130 * 1_000_000, `${lstatSync(image).size} bytes`)
  })

  test('an EROFS image has a sparse file of 20 GiB', () => {
    const GIB = 2 ** 30
    const islands = [0, 4096, GIB + 512, 5 * GIB + 100, 20 * GIB - 5000].map((start, index) => ({
      start,
      length: 700 * (index + 1),
    }))
    const stored = islands.map(({ length }, index) => Buffer.alloc(length, index + 1))
    const tar = newPath('tar')
    writeFileSync(tar, Buffer.concat([Buffer.alloc(512), ...stored, Buffer.alloc(511)]))
    truncateSync(tar, Math.floor(lstatSync(tar).size / 512) * 512)
    const tree = new FileTree()
    const segments = Float64Array.from(islands.flatMap(({ start, length }) => [start, length]))
    tree.setEntry(
      ROOT,
      Buffer.from('sparse'),
      tree.createFile(FILE, { layer: 0, offset: 512, sizeBytes: 20 * GIB, segments }),
    )
    for (const kind of ['tar', 'disk'] as const) {
      const image = writeImage(tree, [tar], kind)
      assert.ok(lstatSync(image).size < 2 << 20, `${lstatSync(image).size} bytes`)
      withMount(image, kind === 'tar' ? [tar] : [], 'file', (path) => {
        assert.equal(lstatSync(join(path, 'sparse')).size, 20 * GIB)
        const fd = openSync(join(path, 'sparse'), 'r')
        for (const [index, { start, length }] of islands.entries()) {
          const from = Math.max(0, start - 3000)
          const around = Buffer.alloc(8192)
          const read = readSync(fd, around, 0, around.length, from)
          const expected = Buffer.alloc(read)
          for (const [other, island] of islands.entries()) {
            const at = island.start - from
            if (at < read && at + island.length > 0)
              expected.fill(other + 1, Math.max(0, at), Math.max(0, Math.min(read, at + island.length)))
          }
          assert.ok(
            around.subarray(0, read).equals(expected),
            `${kind}: island ${index} of ${length} bytes at ${start}`,
          )
        }
        closeSync(fd)
      })
    }
  })

  test('a sparse file whose data is in the tar and in the image has its bytes, wherever these lie', () => {
    const expected = Buffer.alloc(200_000)
    expected.fill('A', 0, 4096).fill('B', 9001, 9002)
    for (let shift = 1; shift <= 40; shift += 1) {
      const tree = new FileTree()
      const file = { layer: 0, offset: shift * 512, sizeBytes: 200_000 }
      const segments = Float64Array.from([0, 4096, 9001, 1])
      tree.setEntry(ROOT, Buffer.from('sparse'), tree.createFile(FILE, { ...file, segments }))
      // The copied byte lies behind their inodes, at a block that is one of the tar's, too.
      for (let index = 0; index < 60; index += 1)
        tree.setEntry(ROOT, Buffer.from(`${index}`), tree.createFile(FILE, data(0, 0)))
      const tar = newPath('tar')
      writeFileSync(tar, Buffer.alloc((shift + 60) * 512, 'Z'))
      const fd = openSync(tar, 'r+')
      writeSync(fd, `${'A'.repeat(4096)}B`, shift * 512)
      closeSync(fd)
      for (const by of ['file', 'loop'] as const)
        withMount(writeImage(tree, [tar], 'tar'), [tar], by, (path) => {
          const read = readFileSync(join(path, 'sparse'))
          assert.ok(read.equals(expected), `${by}, ${shift} blocks`)
        })
    }
  })

  test('images of mkfs.erofs are read as the kernel shows them', () => {
    const source = newPath('source')
    mkdirSync(join(source, 'deep/er'), { recursive: true })
    const files: Record<string, Buffer> = {
      empty: Buffer.alloc(0),
      small: Buffer.from('behind its inode'),
      'deep/er/block': Buffer.alloc(4096, 'b'),
      'deep/large': Buffer.alloc(100_001, 'l'),
    }
    for (const [name, content] of Object.entries(files)) writeFileSync(join(source, name), content)
    for (let index = 0; index < 500; index += 1)
      writeFileSync(join(source, `deep/er/name-${index}`), String(index))
    symlinkSync('small', join(source, 'link'))
    linkSync(join(source, 'small'), join(source, 'deep/hard'))
    execFileSync('setfattr', ['-n', 'user.loam', '-v', 'value', join(source, 'small')])
    const path = newPath('mkfs.erofs')
    execFileSync('mkfs.erofs', ['-x1', path, source], { stdio: 'ignore' })
    const bytes = readFileSync(path)
    const image = new ErofsImage(
      (position, length) => bytes.subarray(position, position + length),
      bytes.length,
    )
    const found: string[] = []
    const visit = (name: string, nid: number) => {
      const inode = nid === 0 ? image.root() : image.inode(nid)
      const content = image.isFile(inode) ? image.readSelf(inode, 0, inode.sizeBytes).toString('latin1') : ''
      const xattrs = image.xattrs(inode).map((xattr) => `${xattr.name.toString()}=${xattr.value.toString()}`)
      found.push(
        [
          name,
          inode.mode.toString(8),
          inode.sizeBytes * Number(!image.isDirectory(inode)),
          content,
          ...xattrs,
        ].join(' '),
      )
      if (!image.isDirectory(inode)) return
      for (const entry of [...image.entries(inode)]) visit(`${name}/${entry.name.toString()}`, entry.nid)
    }
    visit('', 0)
    const expected = withMount(path, [], 'file', (mounted) => {
      const shown: string[] = []
      const show = (name: string) => {
        const stats = lstatSync(join(mounted, name))
        const content = stats.isFile() ? readFileSync(join(mounted, name), 'latin1') : ''
        const xattrs = readXattrs(Buffer.from(join(mounted, name))).map(
          (xattr) => `${xattr.name.toString()}=${xattr.value.toString()}`,
        )
        shown.push(
          [name, stats.mode.toString(8), stats.size * Number(!stats.isDirectory()), content, ...xattrs].join(
            ' ',
          ),
        )
        if (stats.isDirectory())
          for (const child of readdirSync(join(mounted, name))) show(`${name}/${child}`)
      }
      show('')
      return shown
    })
    const byText = (a: string, b: string) => (a < b ? -1 : 1)
    assert.deepEqual(found.toSorted(byText), expected.toSorted(byText))
    assert.equal(found.length, 509)
  })

  test('the same tree always gives the same EROFS image', () => {
    const tar = createBlocks(8)
    const digests = [1, 2].map(() => {
      const tree = new FileTree()
      for (const name of ['b', 'a', 'c']) addFile(tree, ROOT, name, [512, 1000])
      return createHash('sha256')
        .update(readFileSync(writeImage(tree, [tar], 'tar')))
        .digest('hex')
    })
    assert.equal(digests[0], digests[1])
  })

  test('a merged image has a UUID that stands for its layers and the place of each inode', () => {
    const uuidOf = (name: string, tar: string, kind: ErofsOptions['data'] = 'tar') => {
      const tree = new FileTree()
      addFile(tree, ROOT, name, [512, 1000])
      return readFileSync(writeImage(tree, [tar], kind))
        .subarray(1072, 1088)
        .toString('hex')
    }
    const [first, other] = [createBlocks(8), createBlocks(8)]
    const uuids = [uuidOf('a', first), uuidOf('a', other), uuidOf('a'.repeat(200), first)]
    assert.equal(new Set(uuids).size, 3)
    for (const uuid of uuids) assert.match(uuid, /^.{12}8.{3}[89ab].{15}$/)
    assert.equal(uuidOf('a', first), uuids[0])
    // The files of a disk by itself are in no layer.
    assert.equal(uuidOf('a', first, 'disk'), '0'.repeat(32))
  })
})
