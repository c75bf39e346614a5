// Images of zstd:chunked are pulled lazily by the tables in their own blobs.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { ImageInspection } from '../../src/index.ts'
import { digestOf } from '../../src/image/index.ts'
import { blob } from '../../src/testing/image-builder.ts'
import { buildImage, buildTar, listTree } from '../../src/testing/index.ts'
import { LazyWorld } from '../support/lazy-world.ts'
import { DebianRegistry, layoutOf, ok, World } from '../support/world.ts'
import { packChunked } from '../support/zstd-chunked.ts'

const textOf = (bytes: number) => Buffer.from(randomBytes(bytes / 2).toString('hex'))
const tar = buildTar([
  { name: 'etc/', mode: 0o755 },
  { name: 'etc/config', data: 'text' },
  { name: 'usr/', mode: 0o755 },
  { name: 'usr/large', mode: 0o755, data: textOf(3_000_000) },
  ...Array.from({ length: 50 }, (_, index) => ({ name: `usr/file${index}`, data: textOf(index * 200) })),
])

function buildChunkedImage() {
  const { blob: bytes, annotations } = packChunked(tar, 400_000)
  const layer = blob(bytes)
  const image = buildImage({ tars: [tar], compression: 'zstd' })
  const manifest = JSON.parse(image.manifest.bytes.toString()) as { layers: object[] }
  manifest.layers = [{ ...manifest.layers[0], digest: layer.digest, size: bytes.length, annotations }]
  return { ...image, layers: [layer], manifest: blob(Buffer.from(JSON.stringify(manifest))) }
}

test('a zstd:chunked image is pulled lazily without any other index, and is complete later', {
  timeout: 300_000,
}, async () => {
  using registry = await DebianRegistry.start()
  const name = `${registry.host}/chunked:1`
  {
    using pusher = new World()
    const layout = layoutOf(pusher, buildChunkedImage())
    ok(pusher.loam('pull', layout))
    ok(pusher.loam('push', layout, name))
  }
  using eager = new World()
  const expected = listTree(ok(eager.loam('provision', '--id', 'eager', name)).stdout.trim())
  using world = new LazyWorld()
  const provisioned = ok(world.loam('provision', '--lazy', '--id', 'lazy', name))
  assert.match(provisioned.stderr, /ready, its data comes when it is read/)
  assert.deepEqual(listTree(provisioned.stdout.trim()), expected)
  await world.untilComplete()
  const [layer] = buildImage({ tars: [tar] }).diffIds
  assert.ok(readFileSync(join(world.root, 'layers', layer ?? '', 'layer.tar')).equals(tar))
  const { lazy } = JSON.parse(ok(world.loam('inspect', name)).stdout) as ImageInspection
  const file = readFileSync(join(world.root, 'layers', layer ?? '', 'layer.lazy-index'))
  assert.equal(lazy?.layers[0]?.indexDigest, digestOf(file), 'a check and a new boot look for this digest')
  ok(world.loam('destroy', 'lazy'))
})
