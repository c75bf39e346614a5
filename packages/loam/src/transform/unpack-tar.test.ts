import assert from 'node:assert/strict'
import { closeSync, mkdirSync, mkdtempDisposableSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { openDirectory } from '../linux/index.ts'
import { type BuildEntry, buildTar } from '../testing/index.ts'
import { DEFAULT_LAYER_LIMITS, FileTree, ROOT, S_LOWER_LINK } from '../tree/index.ts'
import type { PackReport } from './folder-reader.ts'
import { unpackTar } from './unpack-tar.ts'
import { writeTree } from './write-tree.ts'

describe('unpackTar', () => {
  test('links the names of a file in the tar', async () => {
    using world = new World()
    const link = { name: 'link', type: 'hardlink' as const, linkName: 'sub/file' }
    assert.deepEqual(await world.unpack([{ name: 'sub/file', data: 'x' }, link]), { leftOut: [] })
    assert.equal(statSync(join(world.target, 'link')).nlink, 2)
  })

  for (const [what, entries] of Object.entries<BuildEntry[]>({
    'a file that only the directory has': [{ name: 'link', type: 'hardlink', linkName: 'there' }],
    'a directory that the tar does not list': [
      { name: 'sub/file' },
      { name: 'link', type: 'hardlink', linkName: 'sub' },
    ],
  }))
    test(`refuses a hard link to ${what}, before anything is unpacked`, async () => {
      using world = new World()
      writeFileSync(join(world.target, 'there'), 'x')
      await assert.rejects(
        world.unpack([{ name: 'other' }, ...entries]),
        (error) => isLoamError(error, 'TAR_INVALID') && /"link" names "(there|sub)"/.test(error.message),
      )
      assert.deepEqual(readdirSync(world.target), ['there'])
    })

  test('reports the xattrs of the tar that no file gets', async () => {
    using world = new World()
    const xattrs = { 'com.apple.quarantine': 'x' }
    const { leftOut } = await world.unpack([{ name: 'file', xattrs }, { name: 'other' }])
    assert.deepEqual(leftOut, ['one file without unsupported xattrs: com.apple.quarantine'])
  })
})

test('a tree whose links into lower layers are not resolved is a defect, and never written', () => {
  using world = new World()
  const tree = new FileTree()
  const attributes = { mode: S_LOWER_LINK, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanoseconds: 0 }
  tree.setEntry(ROOT, Buffer.from('link'), tree.createLink(attributes, Buffer.from('target')))
  assert.throws(
    () => {
      writeTree(tree, { target: world.target, layers: [], whiteouts: 'none' })
    },
    (error) => isLoamError(error, 'INTERNAL'),
  )
})

class World implements Disposable {
  readonly target: string
  readonly #directory = mkdtempDisposableSync(join(tmpdir(), 'loam-unpack-'))

  constructor() {
    this.target = join(this.#directory.path, 'target')
    mkdirSync(this.target)
  }

  async unpack(entries: readonly BuildEntry[]): Promise<PackReport> {
    const packed = join(this.#directory.path, 'packed')
    writeFileSync(packed, buildTar(entries))
    const target = openDirectory(this.target)
    try {
      return await unpackTar({
        packed,
        directory: join(this.#directory.path, 'work'),
        target,
        mounts: [],
        idMapping: undefined,
        limits: DEFAULT_LAYER_LIMITS,
        canceled: new Int32Array(1),
        check: () => undefined,
      })
    } finally {
      closeSync(target)
    }
  }

  [Symbol.dispose](): void {
    this.#directory.remove()
  }
}
