// Every command accepts the digests that `loam pull` prints and `loam images` shows as names of images.
import assert from 'node:assert/strict'
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { buildImage, buildTar, RegistryServer, writeOciLayout } from '../../src/testing/index.ts'
import { openLoam } from '../../src/index.ts'
import { World } from '../support/world.ts'

describe('an image of the store', () => {
  let world: World
  let registry: RegistryServer
  let digests: string[]
  const own = process.arch === 'x64' ? 'amd64' : process.arch
  const layoutOf = (name: string) => join(world.folder, name)

  before(async () => {
    world = new World()
    registry = await RegistryServer.start()
    digests = []
    for (let index = 0; index < 6; index += 1) {
      const tar = buildTar([{ name: 'file', data: String(index) }])
      writeOciLayout(layoutOf(`l${index}`), {
        app: buildImage({ tars: [tar], platform: { os: 'linux', architecture: own } }),
      })
    }
    await using loam = await openLoam({ flags: { root: world.root, state: join(world.folder, 'state') } })
    for (let index = 0; index < 6; index += 1) {
      const { digest } = await loam.images.put(layoutOf(`l${index}`), `example.test/app${index}:1`)
      digests.push(digest)
    }
  })
  after(async () => {
    world[Symbol.dispose]()
    await registry[Symbol.asyncDispose]()
  })

  const open = async () => openLoam({ flags: { root: world.root, state: join(world.folder, 'state') } })

  test('an image of the store is named by its digest, whole or short, with or without sha256, for every command', async () => {
    await using loam = await open()
    const [digest = ''] = digests
    for (const id of [digest, digest.slice(7), digest.slice(0, 19), digest.slice(7, 19)]) {
      const pulled = await loam.pull(id)
      assert.deepEqual([pulled.digest, pulled.name], [digest, 'example.test/app0:1'], id)
      assert.equal((await loam.provision(id, { id: 'c', backend: 'copy' })).image.digest, digest)
      await loam.destroy('c')
      const found = await loam.images.inspect(id)
      assert.equal(found.image.digest, digest)
      await loam.export(id, { format: 'tar', output: join(world.folder, `${id.length}.tar`) })
      const [volume] = await loam.containers.provisionVolumes([{ image: id, target: 'v' }], {
        id: 'v',
        sandbox: world.folder,
        backend: 'copy',
      })
      assert.equal(volume?.rootfs.image.digest, digest)
      await loam.destroy('v')
      const kept = await loam.images.prune({ dryRun: true, excluded: [id] })
      assert.equal(
        kept.images.some((image) => image.digest === digest),
        false,
      )
      // The registry here accepts no uploads; the request shows that the image was found.
      const to = { to: `${registry.host}/pushed:1`, insecure: [registry.host] }
      await assert.rejects(loam.push(id, to), /upload blob/)
      await assert.rejects(loam.push(id), /is not a registry reference/)
    }
    assert.equal(await loam.images.remove(digests[1]?.slice(7, 19) ?? ''), digests[1])
  })

  test('an image id that is not found is searched nowhere else', async () => {
    await using loam = await open()
    const asked = registry.requests.length
    for (const id of ['sha256:0000000000', '0123456789ab', '0'.repeat(64), `sha256:${'0'.repeat(64)}`]) {
      const notFound = { code: 'IMAGE_NOT_FOUND' }
      await assert.rejects(loam.pull(id), notFound)
      await assert.rejects(loam.provision(id), notFound)
      await assert.rejects(loam.run(id), notFound)
      await assert.rejects(loam.export(id, { format: 'tar', output: '-' }), notFound)
      await assert.rejects(loam.push(id), notFound)
      await assert.rejects(
        loam.containers.provisionVolumes([{ image: id, target: 'v' }], { id: 'v', sandbox: world.folder }),
        /has an ID with this prefix/,
      )
      await assert.rejects(loam.images.inspect(id), notFound)
      await assert.rejects(loam.images.remove(id), notFound)
      assert.match(world.loam('run', id, 'true').stderr, /no image in the store has an ID/)
    }
    assert.equal(registry.requests.length, asked)
  })

  test('an image is exported to a directory that may be named in the ways of other tools, and to no archive by mistake', async () => {
    await using loam = await open()
    const [digest = ''] = digests
    for (const name of ['x.tar', 'x.tar.gz'])
      await assert.rejects(loam.export(digest, { format: 'oci', output: join(world.folder, name) }), {
        code: 'USAGE',
      })
    await loam.export(digest, { format: 'oci', output: `oci:${join(world.folder, 'exported')}` })
    assert.ok(existsSync(join(world.folder, 'exported/oci-layout')))
  })

  test('messages name an image as users write it, with an at sign before a digest', async () => {
    await using loam = await open()
    const pinned = `${registry.host}/none@sha256:${'0'.repeat(64)}`
    await assert.rejects(loam.pull(pinned), (error: Error) => error.message.includes(pinned))
    await assert.rejects(loam.pull(`${registry.host}/none:1`), (error: Error) =>
      error.message.includes(`${registry.host}/none:1:`),
    )
  })

  test('an image stays under the name of its file when the file is gone', async () => {
    await using loam = await open()
    const name = `oci:${layoutOf('l5')}:app`
    await loam.pull(name)
    rmSync(layoutOf('l5'), { recursive: true })
    assert.equal((await loam.provision(name, { id: 'gone', backend: 'copy' })).image.digest, digests[5])
    await loam.destroy('gone')
    await assert.rejects(loam.pull(name), /SOURCE_NOT_FOUND|it does not exist/)
  })
})
