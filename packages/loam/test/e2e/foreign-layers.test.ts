// Images with layers that must not be distributed, which are at an address of their own: pulled, and copied to where they are needed.
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { after, before, beforeEach, describe, test } from 'node:test'
import { digestOf } from '../../src/image/index.ts'
import { buildImage, buildTar, RegistryServer } from '../../src/testing/index.ts'
import { must, ok, World } from '../support/world.ts'

const image = buildImage({
  tars: ['base', 'own'].map((name) => buildTar([{ name, data: name.repeat(1000) }])),
  platform: { os: 'linux', architecture: process.arch === 'arm64' ? 'arm64' : 'amd64' },
})
const [foreign] = image.layers
assert.ok(foreign !== undefined)

/** Its first layer is foreign, and at an address. */
function foreignImage(url: string): typeof image {
  const manifest = JSON.parse(image.manifest.bytes.toString())
  Object.assign(manifest.layers[0], {
    mediaType: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
    urls: [url],
  })
  const bytes = Buffer.from(JSON.stringify(manifest))
  return { ...image, manifest: { digest: digestOf(bytes), bytes }, layers: image.layers.slice(1) }
}

describe('an image with a layer that must not be distributed', () => {
  let registry: RegistryServer
  let world: World
  let served = foreign.bytes
  let name = ''
  let address = ''
  let deliveries = 0
  const vendor = createServer((_request, response) => {
    deliveries += 1
    response.end(served)
  })
  before(async () => {
    await new Promise<void>((resolve) => {
      vendor.listen(0, '127.0.0.1', resolve)
    })
    address = `127.0.0.1:${(vendor.address() as AddressInfo).port}`
    registry = await RegistryServer.start()
    registry.addImage('foreign', '1', foreignImage(`http://${address}/layer`))
    name = `${registry.host}/foreign:1`
  })
  beforeEach((t) => {
    served = foreign.bytes
    world = new World()
    assert.ok('after' in t)
    t.after(() => {
      world[Symbol.dispose]()
    })
  })
  after(async () => {
    vendor.close()
    vendor.closeAllConnections()
    await registry[Symbol.asyncDispose]()
  })

  test('is pulled with this layer, which is verified, and its layer comes from there again when it was lost', async () => {
    served = Buffer.from(foreign.bytes).fill(0, 100, 120)
    const refused = await world.loamAsync('--json', 'pull', name)
    assert.equal(JSON.parse(refused.stderr.trim().split('\n').at(-1) ?? '').error.code, 'DIGEST_MISMATCH')
    served = foreign.bytes
    ok(await world.loamAsync('pull', name))
    const folder = world.path('store', 'layers', image.diffIds[0] ?? '')
    assert.ok(existsSync(folder))
    rmSync(folder, { recursive: true })
    const asked = registry.requests.length
    ok(await world.loamAsync('save', '-o', world.path('saved.tar'), name))
    assert.ok(existsSync(folder))
    assert.deepEqual(
      registry.requests.slice(asked).filter((path) => path.includes('/manifests/')),
      [],
      'its manifest is in the store',
    )
  })

  test('is whole in a docker-archive, and without this layer in a layout', async () => {
    const archive = `docker-archive:${world.path('file.tar')}`
    ok(await world.loamAsync('copy', name, `${archive}:x.test/y:1`))
    must('skopeo', 'copy', '-q', archive, `dir:${world.path('read')}`)
    ok(await world.loamAsync('load', world.path('file.tar')))
    const layout = `oci:${world.path('layout')}`
    ok(await world.loamAsync('copy', name, `${layout}:1`))
    assert.equal(existsSync(world.path('layout', 'blobs', foreign.digest.replace(':', '/'))), false)
    for (const to of [`docker-archive:${world.path('other.tar')}:x.test/z:1`, undefined]) {
      const failed = to === undefined ? ['put', `${layout}:1`, 'z:1'] : ['copy', `${layout}:1`, to]
      using other = new World()
      const { stderr } = await other.loamAsync('--json', ...failed)
      const { error } = JSON.parse(stderr.trim().split('\n').at(-1) ?? '')
      assert.equal(error.code, 'SOURCE_INVALID')
      assert.match(
        error.message,
        new RegExp(`must not be distributed; the manifest says that it is at ${address}`),
      )
    }
  })

  test('that only a file has is never looked for at the address in it', async () => {
    const [layout, own] = [world.path('layout'), `${registry.host}/own:1`]
    ok(await world.loamAsync('copy', name, `oci:${layout}:1`))
    writeFileSync(`${layout}/blobs/${foreign.digest.replace(':', '/')}`, foreign.bytes)
    using other = new World()
    ok(await other.loamAsync('put', `oci:${layout}:1`, own))
    deliveries = 0
    rmSync(other.path('store', 'layers', image.diffIds[0] ?? ''), { recursive: true })
    rmSync(layout, { recursive: true })
    for (const words of [
      ['save', '-o', other.path('saved.tar'), own],
      ['fsck', '--repair'],
    ])
      assert.notEqual((await other.loamAsync(...words)).status, 0, words.join(' '))
    assert.equal(deliveries, 0)
    ok(await other.loamAsync('pull', name))
    ok(await other.loamAsync('fsck', '--repair'))
    assert.ok(deliveries > 0, 'its registry names the address')
  })
})
