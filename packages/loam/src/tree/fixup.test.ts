import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { isLoamError } from '../errors/index.ts'
import type { BuildEntry } from '../testing/index.ts'
import { denseLayer, readLayer } from '../../test/support/random-layers.ts'
import {
  applyLayer,
  FileTree,
  type Inode,
  NONE,
  OverlayView,
  planFixup,
  ROOT,
  S_IFLNK,
  S_IFREG,
} from './index.ts'

const layer = (...entries: readonly (BuildEntry | string)[]) =>
  readLayer(entries.map((entry) => (typeof entry === 'string' ? { name: entry } : entry))).tree

function merge(layers: readonly FileTree[]): FileTree {
  const merged = new FileTree()
  for (const [index, tree] of layers.entries()) applyLayer(merged, tree, index)
  return merged
}

function view(layers: readonly FileTree[]): OverlayView {
  const shown = new OverlayView()
  for (const [index, tree] of layers.entries()) shown.add(tree, index)
  return shown
}

/** All names of a tree with their types, and which of them are one file; listed whiteouts are names, too. */
function list(tree: FileTree, showsWhiteouts: (directory: Inode) => boolean): string[] {
  const firsts = new Map<Inode, string>()
  const lines: string[] = []
  const visit = (directory: Inode, path: string) => {
    for (const entry of tree.allChildren(directory)) {
      const name = `${path}${tree.entryName(entry).toString('latin1')}`
      const inode = tree.entryInode(entry)
      if (inode !== NONE) {
        firsts.set(inode, [firsts.get(inode) ?? name, name].toSorted()[0] ?? name)
        if (tree.isDirectory(inode)) visit(inode, `${name}/`)
      } else if (showsWhiteouts(directory)) lines.push(`${name} is a whiteout`)
    }
  }
  visit(ROOT, '')
  for (let entry = 0; entry < tree.entryCount; entry += 1) {
    const inode = tree.entryInode(entry)
    if (inode === NONE) continue
    const { mode, uid, mtimeSeconds } = tree.attributes(inode)
    const type = tree.type(inode)
    const { offset, sizeBytes } = tree.fileData(inode)
    const content =
      type === S_IFREG ? `${offset}+${sizeBytes}` : type === S_IFLNK ? tree.linkTarget(inode).toString() : ''
    const xattrs = tree.xattrs(inode).map(({ name, value }) => `${name.toString()}=${value.toString()}`)
    const path = tree.entryPath(entry).toString('latin1')
    lines.push(
      `${path} = ${firsts.get(inode)} ${[mode.toString(8), uid, mtimeSeconds, content, ...xattrs].join(' ')}`,
    )
  }
  return lines.toSorted()
}

/** Sets a separate time on each file of a layer, so that files of different layers can be distinguished. */
function stamp(tree: FileTree, mtimeSeconds: number): void {
  for (let inode = 0; inode < tree.inodeCount; inode += 1) {
    const isImplicit = tree.isDirectory(inode) && tree.isInherited(inode)
    if (!isImplicit) tree.setAttributes(inode, { ...tree.attributes(inode), mtimeSeconds })
  }
}

/** Compares overlayfs's view of the folders of layers, with the fixup over them, with the merged tree. */
function check(...layers: readonly FileTree[]): FileTree | undefined {
  for (const [index, tree] of layers.entries()) stamp(tree, index + 1)
  const merged = merge(layers)
  const fixup = planFixup(merged, view(layers))
  const shown = view(fixup === undefined ? layers : [...layers, fixup])
  assert.deepEqual(
    list(shown.tree, (directory) => shown.showsWhiteouts(directory)),
    list(merged, () => false),
  )
  return fixup
}

describe('a fixup over the folders of a stack', () => {
  const cases: Record<string, FileTree[]> = {
    'keeps the attributes of directories that a layer does not list': [
      layer({ name: 'd/', mode: 0o750, uid: 7 }),
      layer('d/new'),
    ],
    'shows a hard link over layers as one file': [
      layer('f'),
      layer({ name: 'l', type: 'hardlink', linkName: 'f' }),
    ],
    'hides a file that a hard link over layers has replaced': [
      layer('a', 't/x'),
      layer({ name: 't', type: 'hardlink', linkName: 'a' }),
      layer('t/y'),
    ],
    'hides a whiteout in a directory that no lower layer has': [layer('a'), layer('n/', 'n/.wh.x')],
    'hides a whiteout in a directory of the base': [layer('n/', 'n/.wh.x', 'n/.wh..wh..opq', '.wh.y')],
    'hides a directory that was made for whiteouts alone': [
      layer('a'),
      layer('nodir/.wh.x', 'b/.wh..wh..opq'),
    ],
    'shows the file or link that whiteouts stand below': [
      layer('f', { name: 'l', type: 'symlink', linkName: 'f' }),
      layer('f/.wh.x', 'l/.wh.x', 'l/d/.wh..wh..opq'),
    ],
    'hides a directory that is whited out and has whiteouts in it': [layer('d/x'), layer('.wh.d', 'd/.wh.x')],
    'says nothing of whiteouts in a directory that was replaced': [
      layer('d/x'),
      layer('d/.wh.x', 'd'),
      layer('d/'),
    ],
    'keeps the mode of a directory that is emptied and not listed': [
      layer({ name: 'd/', mode: 0o700 }, 'd/x', 'd/y'),
      layer('d/.wh..wh..opq', 'd/.wh.y'),
    ],
  }
  for (const [title, layers] of Object.entries(cases)) {
    test(title, () => {
      check(...layers)
    })
  }

  test('a fixup is empty when the directories of the layers show the merged tree by themselves', () => {
    assert.equal(check(layer('d/', 'd/x', 'e/', 'e/y'), layer('d/', 'd/.wh.x', '.wh.e')), undefined)
    assert.equal(check(layer('d/x')), undefined)
  })

  test('a fixup makes overlayfs show the merged tree, for any layers', () => {
    fc.assert(
      fc.property(fc.array(denseLayer, { minLength: 1, maxLength: 5 }), (layers) => {
        const trees = layers.map(({ tree }) => tree)
        try {
          merge(trees)
        } catch (error) {
          if (isLoamError(error, 'TAR_INVALID')) return
          throw error
        }
        // Nothing below an opaque root is stacked, but a link may have taken a file from there.
        if (trees.some((tree) => tree.isOpaque(ROOT))) return
        check(...trees)
      }),
      { numRuns: 1000 },
    )
  })
})
