// Images of a real registry whose layers have lazy indexes: mounted before their data is here, and complete later.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { copyFileSync, mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { buildImage, buildTar, type BuildEntry, listTree } from '../../src/testing/index.ts'
import { LazyWorld } from '../support/lazy-world.ts'
import { DebianRegistry, layoutOf, ok, World } from '../support/world.ts'

/** Pseudo-random text: it compresses by half, and each span of it differs. */
const textOf = (bytes: number) => Buffer.from(randomBytes(bytes / 2).toString('hex'))

const BASE: readonly BuildEntry[] = [
  { name: 'etc/', mode: 0o755 },
  { name: 'etc/config', data: 'base' },
  { name: 'etc/hidden', data: textOf(100_000) },
  { name: 'usr/', mode: 0o755 },
  { name: 'usr/large', mode: 0o755, data: textOf(6_000_000) },
  { name: 'usr/linked', type: 'hardlink', linkName: 'usr/large' },
  ...Array.from({ length: 200 }, (_, index) => ({ name: `usr/file${index}`, data: textOf(2 + index * 200) })),
]
const TOP: readonly BuildEntry[] = [
  { name: 'etc/.wh.hidden' },
  { name: 'etc/config', data: 'top' },
  { name: 'usr/sym', type: 'symlink', linkName: 'large' },
  { name: 'usr/other', data: textOf(3_000_000) },
]
const image = buildImage({ tars: [buildTar(BASE), buildTar(TOP)], compression: 'gzip' })

describe('an image with lazy indexes', { timeout: 120_000 }, () => {
  let registry: DebianRegistry
  let name: string
  let maker: World
  let indexes: string
  let expected: string[]

  before(async () => {
    registry = await DebianRegistry.start()
    name = `${registry.host}/app:1`
    maker = new World()
    {
      using pusher = new World()
      const layout = layoutOf(pusher, image)
      ok(pusher.loam('pull', layout))
      ok(pusher.loam('push', layout, name))
    }
    indexes = maker.path('indexes')
    mkdirSync(indexes, { mode: 0o700 })
    ok(maker.loam('pull', '--lazy-index', 'make', name))
    for (const [index, diffId] of image.diffIds.entries())
      copyFileSync(
        join(maker.root, 'layers', diffId, 'layer.lazy-index'),
        join(indexes, `${image.layers[index]?.digest}.lazy-index`),
      )
    expected = listTree(ok(maker.loam('provision', '--id', 'eager', name)).stdout.trim())
  })
  after(() => {
    maker[Symbol.dispose]()
    registry[Symbol.dispose]()
  })

  const lazily = ['--lazy', '--lazy-trust', 'own', '--lazy-index-dir'] as const

  test('shows the tree and the files of an eager pull, before their data is here, and completes its layers', async () => {
    using world = new LazyWorld()
    const provisioned = ok(world.loam('provision', ...lazily, indexes, '--id', 'lazy', name))
    assert.match(provisioned.stderr, /ready, its data comes when it is read/)
    assert.deepEqual(listTree(provisioned.stdout.trim()), expected)
    await world.untilComplete()
    for (const diffId of image.diffIds) {
      const { size, blocks } = statSync(join(world.root, 'layers', diffId, 'layer.tar'))
      assert.ok(blocks * 512 >= size)
    }
    const pulled = ok(world.loam('pull', name))
    assert.equal([...pulled.stderr.matchAll(/already here/g)].length, image.layers.length)
    ok(world.loam('fsck'))
    ok(world.loam('destroy', 'lazy'))
    assert.deepEqual(world.rootfsMounts(), [])
    assert.deepEqual(world.leftovers(), [])
  })
})
