import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { isLoamError } from '../errors/index.ts'
import { LOWER_LINK, ODD_BASE, ODD_TOP, ODD_UNLISTED } from '../testing/index.ts'
import { applyLayer, type FileData, FileTree, NONE, ROOT, S_IFREG, S_LOWER_LINK } from '../tree/index.ts'
import { denseLayer, randomLayer, readLayer } from '../../test/support/random-layers.ts'
import { crc32c } from './crc32c.ts'
import { deviceSlots } from './device-slots.ts'
import { ErofsImage, type ErofsInode, type ErofsOptions, readLayerImage, writeErofs } from './index.ts'

function write(
  tree: FileTree,
  tars: readonly Buffer[],
  options: Pick<ErofsOptions, 'data' | 'contents'>,
): Buffer {
  const chunks: Buffer[] = []
  const { sizeBytes } = writeErofs(tree, {
    ...options,
    layers: tars.map((tar, index) => ({ tag: String(index), sizeBytes: tar.length })),
    readData: (layer, offset, target) => {
      assert.equal(tars[layer]?.copy(target, 0, offset, offset + target.length), target.length)
    },
    write: (chunk) => {
      chunks.push(Buffer.from(chunk))
    },
  })
  const image = Buffer.concat(chunks)
  assert.equal(image.length, sizeBytes)
  return image
}

const open = (image: Buffer) =>
  new ErofsImage((position, length) => image.subarray(position, position + length), image.length)
const reread = (image: Buffer) =>
  readLayerImage((position, length) => image.subarray(position, position + length), image.length)

/** Undefined when a hard link names a file that no layer has. */
function tryMerge(...layers: readonly FileTree[]): FileTree | undefined {
  try {
    return merge(...layers)
  } catch (error) {
    if (isLoamError(error, 'TAR_INVALID')) return undefined
    throw error
  }
}

function merge(...layers: readonly FileTree[]): FileTree {
  const merged = new FileTree()
  for (const [index, tree] of layers.entries()) applyLayer(merged, tree, index)
  return merged
}

/** Everything in a tree, in an order of its own. */
function describeTree(tree: FileTree): string[] {
  const firstNames = new Map<number, string>()
  const lines = [describeInode(tree, ROOT)]
  const named = Array.from({ length: tree.entryCount }, (_none, entry) => ({
    path: tree.entryPath(entry).toString('latin1'),
    inode: tree.entryInode(entry),
  }))
    .filter(({ inode }) => inode !== NONE)
    .toSorted((a, b) => (a.path < b.path ? -1 : 1))
  for (const { path, inode } of named) {
    const first = firstNames.get(inode) ?? path
    firstNames.set(inode, first)
    lines.push(`${path} = ${first}: ${describeInode(tree, inode)}`)
  }
  return lines
}

function describeInode(tree: FileTree, inode: number): string {
  const { mode, uid, gid, mtimeSeconds, mtimeNanoseconds } = tree.attributes(inode)
  const xattrs = tree
    .xattrs(inode)
    .map(({ name, value }) => `${name.toString('latin1')}=${value.toString('hex')}`)
  const type = tree.type(inode)
  const content =
    type === S_IFREG
      ? describeData(tree.fileData(inode))
      : type === 0o120000 || type === S_LOWER_LINK
        ? tree.linkTarget(inode).toString('latin1')
        : type === 0o40000
          ? ''
          : JSON.stringify(tree.device(inode))
  return [mode.toString(8), uid, gid, mtimeSeconds, mtimeNanoseconds, content, ...xattrs].join(' ')
}

function describeData({ layer, sizeBytes, offset, segments }: FileData): string {
  return `${layer} ${sizeBytes} ${sizeBytes === 0 ? '' : offset} ${segments?.join(',') ?? ''}`
}

/** The effects of a layer in addition to its files. A whiteout beside anything but a directory has no further effect. */
function describeMarks(tree: FileTree): string[] {
  const lines = [`/ ${tree.isInherited(ROOT)} ${tree.isOpaque(ROOT)}`]
  for (let entry = 0; entry < tree.entryCount; entry += 1) {
    const inode = tree.entryInode(entry)
    const isWhiteout = tree.isWhiteout(entry)
    const isDirectory = inode !== NONE && tree.isDirectory(inode)
    if (inode === NONE && !isWhiteout) continue
    const marks = [
      inode === NONE || (isDirectory && isWhiteout) ? `whiteout ${isWhiteout}` : '',
      isDirectory ? `inherited ${tree.isInherited(inode)} opaque ${tree.isOpaque(inode)}` : '',
    ]
    lines.push(`${tree.entryPath(entry).toString('latin1')} ${marks.join(' ')}`)
  }
  return lines.toSorted()
}

/** Reads a file the way the kernel does. */
function readFile(image: ErofsImage, inode: ErofsInode, self: Buffer, devices: readonly Buffer[]): Buffer {
  const content = Buffer.alloc(inode.sizeBytes)
  let end = 0
  let last: { readonly device: number; readonly end: number } | undefined
  for (const { start, length, device, position } of image.extents(inode)) {
    assert.equal(start, end)
    end = start + length
    if (device === undefined) continue
    // Linux would read it from the device before.
    const isMistaken = last !== undefined && last.device !== device && last.end === position
    assert.ok(!isMistaken, `data on device ${device} follow those on another one`)
    last = { device, end: position + length }
    const from = device === 0 ? self : devices[device - 1]
    from?.copy(content, start, position, position + length)
  }
  assert.equal(end, inode.sizeBytes)
  return content
}

function walk(image: ErofsImage, visit: (path: string, inode: ErofsInode) => void): void {
  const pending = [{ path: '', inode: image.root() }]
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { path, inode } = next
    visit(path, inode)
    if (!image.isDirectory(inode)) continue
    for (const { name, nid } of image.entries(inode)) {
      pending.push({ path: `${path}/${name.toString('latin1')}`, inode: image.inode(nid) })
    }
  }
}

describe('EROFS images', () => {
  test('the checksum of an EROFS image is that of the kernel', () => {
    // The check value of CRC-32C is 0xe3069283, inverted at the end; the kernel inverts nothing.
    assert.equal(crc32c(0xffffffff, Buffer.from('123456789')), ~0xe3069283 >>> 0)
  })

  test('a layer read from its metadata image is the same layer, with all of its marks', () => {
    fc.assert(
      fc.property(fc.oneof(denseLayer, randomLayer), ({ tree, tar }) => {
        const again = reread(write(tree, [tar], { data: 'tar', contents: 'layer' }))
        assert.deepEqual(describeTree(again), describeTree(tree))
        assert.deepEqual(describeMarks(again), describeMarks(tree))
      }),
      { numRuns: 400 },
    )
  })

  test('a layer read from its metadata image merges as the layer itself', () => {
    fc.assert(
      fc.property(fc.oneof(denseLayer, randomLayer), fc.oneof(denseLayer, randomLayer), (base, top) => {
        const direct = tryMerge(base.tree, top.tree)
        if (direct === undefined) return
        const [first, second] = [base, top].map(({ tree, tar }) =>
          reread(write(tree, [tar], { data: 'tar', contents: 'layer' })),
        )
        assert.ok(first && second)
        assert.deepEqual(describeTree(merge(first, second)), describeTree(direct))
      }),
      { numRuns: 300 },
    )
  })

  test('layers with unusual entries merge from their metadata images as they do themselves', () => {
    const layers = [ODD_BASE, ODD_TOP, ODD_UNLISTED, LOWER_LINK].map(readLayer)
    const indexes = layers.map(({ tree, tar }) =>
      reread(write(tree, [tar], { data: 'tar', contents: 'layer' })),
    )
    assert.deepEqual(describeTree(merge(...indexes)), describeTree(merge(...layers.map(({ tree }) => tree))))
  })

  test('an EROFS image has the files that were written, as a disk and over a tar', () => {
    fc.assert(
      fc.property(randomLayer, fc.constantFrom('tar' as const, 'disk' as const), ({ tree, tar }, data) => {
        const merged = tryMerge(tree)
        if (merged === undefined) return
        const bytes = write(merged, [tar], { data, contents: 'merged' })
        assert.ok(
          bytes.equals(write(merged, [tar], { data, contents: 'merged' })),
          'the same tree gives the same bytes',
        )
        const image = open(bytes)
        const seen = new Map<string, string>()
        walk(image, (where, inode) => {
          const xattrs = image.xattrs(inode).toSorted((a, b) => a.name.compare(b.name))
          const content = image.isFile(inode) ? readFile(image, inode, bytes, [tar]).toString('hex') : ''
          seen.set(
            where,
            JSON.stringify([
              inode.mode,
              inode.uid,
              inode.gid,
              inode.mtimeSeconds,
              inode.mtimeNanoseconds,
              inode.links,
              content,
              xattrs,
            ]),
          )
        })
        const expected = new Map<string, string>()
        const expect = (where: string, inode: number) => {
          const { mode, uid, gid, mtimeSeconds, mtimeNanoseconds } = merged.attributes(inode)
          const isDirectory = merged.isDirectory(inode)
          const { offset, sizeBytes } = merged.fileData(inode)
          const content =
            merged.type(inode) === S_IFREG ? tar.toString('hex', offset, offset + sizeBytes) : ''
          const below = [...merged.children(inode)].map((child) => merged.entryInode(child))
          const links = isDirectory
            ? 2 + below.filter((child) => merged.isDirectory(child)).length
            : merged.linkCount(inode)
          expected.set(
            where,
            JSON.stringify([
              mode,
              uid,
              gid,
              mtimeSeconds,
              mtimeNanoseconds,
              links,
              content,
              merged.xattrs(inode),
            ]),
          )
        }
        expect('', ROOT)
        for (let each = 0; each < merged.entryCount; each += 1) {
          if (merged.entryInode(each) !== NONE)
            expect(`/${merged.entryPath(each).toString('latin1')}`, merged.entryInode(each))
        }
        assert.deepEqual(seen, expected)
      }),
      { numRuns: 200 },
    )
  })

  test('sparse files are cut into chunks so that every byte is in its place', () => {
    const stretch = fc.record({
      gap: fc.integer({ min: 0, max: 5000 }),
      length: fc.integer({ min: 0, max: 3000 }),
    })
    const aligned = fc
      .record({ gap: fc.integer({ min: 0, max: 20 }), length: fc.integer({ min: 0, max: 9 }) })
      .map(({ gap, length }) => ({ gap: gap * 512, length: length * 512 }))
    fc.assert(
      fc.property(
        fc.oneof(fc.array(stretch, { maxLength: 12 }), fc.array(aligned, { maxLength: 40 })),
        fc.integer({ min: 0, max: 5000 }),
        fc.constantFrom(512, 1024, 700),
        fc.constantFrom('tar' as const, 'disk' as const),
        (stretches, endGap, offset, data) => {
          const segments: number[] = []
          let at = 0
          let stored = 0
          for (const { gap, length } of stretches) {
            segments.push(at + gap, length)
            at += gap + length
            stored += length
          }
          const tar = Buffer.from(
            Array.from({ length: offset + stored }, (_none, index) => 1 + (index % 251)),
          )
          const expected = Buffer.alloc(at + endGap)
          let from = offset
          for (let index = 0; index < segments.length; index += 2) {
            const length = segments[index + 1] ?? 0
            tar.copy(expected, segments[index], from, from + length)
            from += length
          }
          const tree = new FileTree()
          const place = {
            layer: 0,
            sizeBytes: expected.length,
            offset,
            segments: Float64Array.from(segments),
          }
          const inode = tree.createFile({ ...tree.attributes(ROOT), mode: S_IFREG | 0o644 }, place)
          tree.setEntry(ROOT, Buffer.from('file'), inode)
          const bytes = write(tree, [tar], { data, contents: 'merged' })
          const image = open(bytes)
          const [found] = [...image.entries(image.root())]
          assert.ok(readFile(image, image.inode(found?.nid ?? 0), bytes, [tar]).equals(expected))
          const again = reread(write(tree, [tar], { data: 'tar', contents: 'layer' }))
          assert.deepEqual(again.fileData(again.find(ROOT, Buffer.from('file'))), place)
        },
      ),
      { numRuns: 300 },
    )
  })

  test('data of a sparse file in the image never have the block number that follows its data in the tar', () => {
    const files = [
      // The byte is copied, before or behind data on blocks of the tar.
      { offset: 0, segments: [0, 4096, 9001, 1] },
      { offset: -1, segments: [0, 1, 8192, 4096] },
    ]
    for (let shift = 1; shift <= 40; shift += 1) {
      const tar = Buffer.alloc((shift + 10) * 512, 'Z')
      const tree = new FileTree()
      for (const [index, { offset, segments }] of files.entries()) {
        const place = { layer: 0, sizeBytes: 20_000, offset: shift * 512 + offset }
        const file = { ...place, segments: Float64Array.from(segments) }
        const inode = tree.createFile({ ...tree.attributes(ROOT), mode: S_IFREG | 0o644 }, file)
        tree.setEntry(ROOT, Buffer.from(`${index}`), inode)
      }
      const bytes = write(tree, [tar], { data: 'tar', contents: 'merged' })
      const image = open(bytes)
      for (const { name, nid } of image.entries(image.root()))
        if (/^\d$/.test(name.toString())) readFile(image, image.inode(nid), bytes, [tar])
    }
  })

  /** A tree of files, each with xattrs that depend on its number. */
  const treeOfXattrs = (
    files: number,
    xattrsOf: (file: number) => readonly { name: string; value: Buffer }[],
  ) => {
    const tree = new FileTree()
    for (let file = 0; file < files; file += 1) {
      const data = { layer: 0, sizeBytes: 0, offset: 0, segments: undefined }
      const inode = tree.createFile({ ...tree.attributes(ROOT), mode: S_IFREG | 0o644 }, data)
      tree.setXattrs(
        inode,
        xattrsOf(file).map(({ name, value }) => ({ name: Buffer.from(name), value })),
      )
      tree.setEntry(ROOT, Buffer.from(`file-${file}`), inode)
    }
    return tree
  }

  test('the root of an EROFS image has a number of 16 bits however many xattrs files share', () => {
    const tree = treeOfXattrs(3000, (file) => [{ name: 'user.a', value: Buffer.alloc(1100, String(file)) }])
    for (const contents of ['layer', 'merged'] as const) {
      const image = write(tree, [Buffer.alloc(0)], { data: 'tar', contents })
      assert.ok(open(image).superblock.rootNid < 100)
      assert.deepEqual(describeTree(reread(image)), describeTree(tree))
    }
  })

  test('an inode keeps any number of xattrs beside the marks of a layer', () => {
    const segments = Float64Array.from(Array.from({ length: 9000 }, (_none, index) => index * 1024))
    const counts = [1, 230, 249, 250, 251, 252, 253, 254, 255, 256, 257, 300, 1000]
    const tree = treeOfXattrs(counts.length, (file) =>
      Array.from({ length: counts[file] ?? 0 }, (_none, index) => ({
        name: `user.${index}`,
        value: Buffer.alloc(10 + (index % 90), file + index),
      })),
    )
    for (const [file] of counts.entries()) {
      const data = { layer: 0, sizeBytes: 9_300_000, offset: 512, segments }
      const inode = tree.createFile({ ...tree.attributes(ROOT), mode: S_IFREG | 0o644 }, data)
      tree.setXattrs(inode, tree.xattrs(tree.find(ROOT, Buffer.from(`file-${file}`))))
      tree.setEntry(ROOT, Buffer.from(`sparse-${file}`), inode)
    }
    const again = reread(write(tree, [Buffer.alloc(10_000_000)], { data: 'tar', contents: 'layer' }))
    assert.deepEqual(describeTree(again), describeTree(tree))
  })

  test('a metadata image names its device once, however often the layer comes, and not at all without data', () => {
    const tree = new FileTree()
    const file = (layerNumber: number, label: string) => {
      const data = { layer: layerNumber, sizeBytes: 512, offset: 512, segments: undefined }
      tree.setEntry(
        ROOT,
        Buffer.from(label),
        tree.createFile({ ...tree.attributes(ROOT), mode: S_IFREG }, data),
      )
    }
    file(0, 'a')
    file(2, 'b')
    file(3, 'c')
    const chunks: Buffer[] = []
    writeErofs(tree, {
      data: 'tar',
      contents: 'merged',
      layers: ['x', 'unused', 'y', 'x'].map((tag) => ({ tag, sizeBytes: 1024 })),
      readData: () => undefined,
      write: (chunk) => {
        chunks.push(Buffer.from(chunk))
      },
    })
    const { devices, blocks } = open(Buffer.concat(chunks)).superblock
    assert.deepEqual(devices, [
      { tag: 'x', blocks: 2, mappedBlock: blocks },
      { tag: 'y', blocks: 2, mappedBlock: blocks + 2 },
    ])
  })

  test('a device that ends within a block is mapped by its whole blocks alone', () => {
    const devices = [
      { tag: 'x', sizeBytes: 1030 },
      { tag: 'y', sizeBytes: 512 },
    ]
    assert.deepEqual(deviceSlots(devices, { imageBytes: 4096, blockBytes: 512 }), [
      { tag: 'x', blocks: 2, mappedBlock: 8 },
      { tag: 'y', blocks: 1, mappedBlock: 10 },
    ])
  })

  test('devices that are too large for one disk are mapped nowhere', () => {
    const devices = Array.from({ length: 3 }, (_none, index) => ({ tag: String(index), sizeBytes: 2 ** 40 }))
    const slots = deviceSlots(devices, { imageBytes: 4096, blockBytes: 512 })
    assert.deepEqual(
      slots.map(({ mappedBlock }) => mappedBlock),
      [0, 0, 0],
    )
  })

  test('a damaged EROFS image ends with an answer or with EROFS_INVALID', () => {
    const { tree, tar } = readLayer([...ODD_BASE, { name: 'large', data: Buffer.alloc(100_000, 1) }])
    const images = [
      write(tree, [tar], { data: 'tar', contents: 'layer' }),
      write(merge(tree), [tar], { data: 'disk', contents: 'merged' }),
    ]
    const damage = fc.array(
      fc.record({ at: fc.double({ min: 0, max: 1, noNaN: true }), value: fc.integer({ min: 0, max: 255 }) }),
      { minLength: 1, maxLength: 8 },
    )
    fc.assert(
      fc.property(
        fc.constantFrom(...images),
        damage,
        fc.boolean(),
        fc.oneof({ weight: 4, arbitrary: fc.constant(1) }, fc.double({ min: 0.01, max: 1, noNaN: true })),
        (image, changes, isLocal, part) => {
          const bytes = Buffer.from(image.subarray(0, Math.max(1, Math.floor(image.length * part))))
          // Most fields are at the start, and in single bytes.
          for (const { at, value } of changes)
            bytes[Math.floor(at * (isLocal ? Math.min(8192, bytes.length) : bytes.length))] = value
          try {
            reread(bytes)
            const found = open(bytes)
            let steps = 0
            walk(found, (_where, inode) => {
              steps += 1
              // The walker has to detect a loop of directories; the tree reader above does.
              if (steps > 100_000) throw new RangeError('enough')
              found.xattrs(inode)
              for (const _extent of found.extents(inode)) steps += 1
            })
          } catch (error) {
            if (error instanceof RangeError && error.message === 'enough') return
            assert.ok(isLoamError(error, 'EROFS_INVALID'), String(error))
          }
        },
      ),
      { numRuns: 3000 },
    )
  })
})
