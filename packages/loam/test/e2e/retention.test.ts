// blob_retention: compressed blobs of pulled layers, for pushes and exports that keep the digest of an image.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { type BuiltImage, buildImage, buildTar, RegistryServer } from '../../src/testing/index.ts'
import { DebianRegistry, ok, World } from '../support/world.ts'

/** An image with a large layer and a small one, both compressed. */
function buildTwoLayers(): BuiltImage {
  return buildImage({
    tars: [2_000_000, 100].map((bytes, index) =>
      buildTar([{ name: `file${index}`, data: randomBytes(bytes) }]),
    ),
  })
}

describe('blob_retention', () => {
  let world: World
  let registry: RegistryServer
  let image: BuiltImage
  let name: string

  beforeEach(async () => {
    world = new World()
    registry = await RegistryServer.start()
    image = buildTwoLayers()
    registry.addImage('app', '1', image)
    name = `${registry.host}/app:1`
  })
  afterEach(async () => {
    await registry[Symbol.asyncDispose]()
    assert.deepEqual(world.leftovers(), [])
    world[Symbol.dispose]()
  })

  const folder = () => join(world.root, 'retained')
  const retained = () => (existsSync(folder()) ? readdirSync(folder()).toSorted() : [])
  const namesOf = ({ layers }: BuiltImage) => layers.map(({ digest }) => digest.replace(':', '-')).toSorted()
  const pull = async (mode: string, ...more: readonly string[]) =>
    ok(await world.loamAsync('pull', `--blob_retention=${mode}`, ...more, name))

  test('nothing is retained by default, and with `all` the blobs of an image are, as they were received', async () => {
    ok(await world.loamAsync('pull', name))
    assert.deepEqual(retained(), [])
    ok(await world.loamAsync('rmi', name))
    ok(await world.loamAsync('prune'))
    await pull('all')
    assert.deepEqual(retained(), namesOf(image))
    for (const { digest, bytes } of image.layers)
      assert.deepEqual(readFileSync(join(folder(), digest.replace(':', '-'))), bytes)
    const { retainedBytes } = JSON.parse(ok(world.loam('--json', 'df')).stdout) as { retainedBytes: number }
    assert.ok(retainedBytes >= 2_000_000)
  })

  test('a push and an export keep the digest of an image whose registry is gone', async () => {
    await pull('all')
    await registry[Symbol.asyncDispose]()
    using target = await DebianRegistry.start()
    const pushed = JSON.parse(ok(world.loam('--json', 'push', name, `${target.host}/copy:1`)).stdout) as {
      digest: string
    }
    assert.equal(pushed.digest, image.manifest.digest)
    const layout = world.path('layout')
    ok(world.loam('--blob_retention=all', 'export', '--format', 'oci', name, layout))
    const index = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')) as {
      manifests: { digest: string }[]
    }
    assert.equal(index.manifests[0]?.digest, image.manifest.digest)
    for (const { digest, bytes } of image.layers)
      assert.deepEqual(readFileSync(join(layout, 'blobs', digest.replace(':', '/'))), bytes)
    registry = await RegistryServer.start()
  })

  test('a prune removes blobs that no image has or the settings no longer retain', async () => {
    await pull('all')
    const [first = ''] = retained()
    ok(world.loam('--blob_retention=all', 'prune'))
    assert.deepEqual(retained(), namesOf(image))
    utimesSync(join(folder(), first), 1, 1)
    ok(world.loam('--blob_retention=time', 'prune'))
    assert.deepEqual(retained(), namesOf(image).slice(1))
    ok(world.loam('prune'))
    assert.deepEqual(retained(), [])
  })

  test('`size` keeps the newest blobs up to a total size', async () => {
    await pull('size', '--blob_retention_size=1000000')
    assert.deepEqual(
      retained(),
      image.layers.slice(1).map(({ digest }) => digest.replace(':', '-')),
    )
  })

  test('the blobs of removed images go with the next prune, and fsck --repair removes a damaged one', async () => {
    await pull('all')
    const [first = '', second = ''] = retained()
    writeFileSync(join(folder(), first), Buffer.alloc(10))
    const checked = world.loam('--blob_retention=all', 'fsck', '--repair')
    assert.match(checked.stdout + checked.stderr, /retained blob sha256:/)
    assert.deepEqual(retained(), [second])
    ok(world.loam('--blob_retention=all', 'rmi', name))
    ok(world.loam('--blob_retention=all', 'prune'))
    assert.deepEqual(retained(), [])
  })

  test('retained blobs are the first to be removed when the file system is short', async () => {
    await pull('all')
    const config = JSON.stringify({
      image_disk_headroom: 1,
      image_disk_watch_interval: { nanoseconds: 3_600_000_000_000 },
    })
    const dryRun = JSON.parse(
      ok(world.loam('--json', '--blob_retention=all', `--image_gc_config=${config}`, 'gc', '--dry-run'))
        .stdout,
    ) as { blobs: string[]; freedBytes: number }
    assert.equal(dryRun.blobs.length, 2)
    assert.deepEqual(retained(), namesOf(image))
    ok(world.loam('--blob_retention=all', `--image_gc_config=${config}`, 'gc'))
    assert.deepEqual(retained(), [])
  })
})
