// Random images in memory only: the trees of their layers, from the tars and from metadata images read back, merged and compared with the model.
import { createHash } from 'node:crypto'
import { readLayerImage, writeErofs } from '../../src/erofs/index.ts'
import { TarReader } from '../../src/tar/index.ts'
import {
  applyLayer,
  type Entry,
  FileTree,
  type Inode,
  LayerTreeBuilder,
  NONE,
  ROOT,
  S_IFBLK,
  S_IFCHR,
  S_IFLNK,
  S_IFREG,
  SortedTree,
  UP,
} from '../../src/tree/index.ts'
import { difference } from './difference.ts'
import { listModel, onlyShared } from './image-model.ts'
import type { RandomImage } from './random-image.ts'

/** Returns the differences of the tree after each layer, read from the tar and from the metadata image. */
export function checkTrees({ tars, trees }: RandomImage): string[] {
  const wrong: string[] = []
  const ways = { tar: readTar, index: (tar: Buffer) => reread(readTar(tar), tar) }
  for (const [way, read] of Object.entries(ways)) {
    const merged = new FileTree()
    for (const [index, tar] of tars.entries()) {
      const what = `the tree of ${index + 1} of ${tars.length} layers, from each ${way}`
      try {
        applyLayer(merged, read(tar), index)
      } catch (error) {
        wrong.push(`${what}: ${error instanceof Error ? error.message : String(error)}`)
        break
      }
      const model = trees[index]
      const found = model === undefined ? [] : difference(what, listFileTree(merged, tars), listModel(model))
      wrong.push(...found)
      if (found.length > 0) break
    }
  }
  return wrong
}

function readTar(tar: Buffer): FileTree {
  const builder = new LayerTreeBuilder()
  const reader = new TarReader((entry) => {
    builder.add(entry)
  })
  reader.write(tar)
  reader.end()
  return builder.tree
}

function reread(tree: FileTree, tar: Buffer): FileTree {
  const chunks: Buffer[] = []
  writeErofs(tree, {
    data: 'tar',
    contents: 'layer',
    layers: [{ tag: 'tar', sizeBytes: tar.length }],
    readData: (_layer, offset, target) => tar.copy(target, 0, offset, offset + target.length),
    write: (chunk) => chunks.push(Buffer.from(chunk)),
  })
  const image = Buffer.concat(chunks)
  return readLayerImage((position, length) => image.subarray(position, position + length), image.length)
}

/** Lists a tree as `listTree` would list it on disk, after `onlyShared`. */
function listFileTree(tree: FileTree, tars: readonly Buffer[]): string[] {
  const sorted = new SortedTree(tree, (entry) => tree.entryInode(entry) !== NONE)
  const firsts = new Map<Inode, string>()
  const lines: string[] = []
  const add = (inode: Inode, path: string) => {
    const { mode, uid, gid, mtimeSeconds, mtimeNanoseconds } = tree.attributes(inode)
    const time = BigInt(mtimeSeconds) * 1_000_000_000n + BigInt(mtimeNanoseconds)
    const fields = [
      JSON.stringify(path),
      mode.toString(8),
      `${uid}:${gid}`,
      describe(tree, inode, tars),
      `t=${time}`,
    ]
    for (const { name, value } of tree.xattrs(inode))
      fields.push(`${name.toString('latin1')}=${value.toString('hex')}`)
    if (!tree.isDirectory(inode)) {
      const first = firsts.get(inode) ?? path
      firsts.set(inode, first)
      fields.push(`same=${JSON.stringify(first)}`)
    }
    lines.push(fields.join(' '))
  }
  const visit = (directory: Inode, path: string) => {
    add(directory, path)
    for (const entry of sorted.entriesOf(directory)) if (entry < UP) visitEntry(entry, path)
  }
  const visitEntry = (entry: Entry, above: string) => {
    const name = tree.entryName(entry).toString('latin1')
    const path = above === '' ? name : `${above}/${name}`
    const inode = tree.entryInode(entry)
    if (tree.isDirectory(inode)) visit(inode, path)
    else add(inode, path)
  }
  visit(ROOT, '')
  return onlyShared(lines)
}

function describe(tree: FileTree, inode: Inode, tars: readonly Buffer[]): string {
  const type = tree.type(inode)
  if (type === S_IFREG) {
    const { layer, offset, sizeBytes, segments = Float64Array.of(0, sizeBytes) } = tree.fileData(inode)
    const data = Buffer.alloc(sizeBytes)
    let stored = offset
    for (let index = 0; index + 1 < segments.length; index += 2) {
      const [at = 0, length = 0] = segments.subarray(index, index + 2)
      tars[layer]?.copy(data, at, stored, stored + length)
      stored += length
    }
    return `${sizeBytes} ${createHash('sha256').update(data).digest('hex').slice(0, 16)}`
  }
  if (type === S_IFLNK) return `-> ${tree.linkTarget(inode).toString('latin1')}`
  if (type !== S_IFCHR && type !== S_IFBLK) return '-'
  const { major, minor } = tree.device(inode)
  return `dev ${(BigInt(major) << 8n) | BigInt(minor & 0xff) | (BigInt(minor >>> 8) << 20n)}`
}
