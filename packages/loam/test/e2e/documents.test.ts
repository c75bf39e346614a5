// Documents of images: damaged ones, large ones, and indexes as builders write them.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { digestOf } from '../../src/image/index.ts'
import { isLoamError, type Loam, openLoam } from '../../src/index.ts'
import {
  buildDockerArchive,
  buildImage,
  buildTar,
  type BuiltImage,
  RegistryServer,
  writeOciLayout,
} from '../../src/testing/index.ts'
import { byTurns } from '../support/rounds.ts'
import { World } from '../support/world.ts'

const INDEX = 'application/vnd.oci.image.index.v1+json'
const tars = [buildTar([{ name: 'file', data: 'hello' }])]
const image = buildImage({ tars, config: { Cmd: ['/file'] } })

/** Opens a world's store in this process. */
async function open(world: World, flags: Readonly<Record<string, unknown>> = {}): Promise<Loam> {
  return openLoam({
    flags: { root: world.root, state: join(world.folder, 'state'), ...flags },
    env: process.env,
    file: null,
  })
}

function blobFile(world: World, digest: string): string {
  return join(world.root, 'blobs', ...digest.split(':'))
}

/** Silent damages of a file. */
const DAMAGES: Readonly<Record<string, (path: string) => void>> = {
  lost: (path) => {
    rmSync(path)
  },
  cut: (path) => {
    writeFileSync(path, readFileSync(path).subarray(0, -1))
  },
  rotten: (path) => {
    const bytes = readFileSync(path)
    bytes[bytes.length - 2] = (bytes.at(-2) ?? 0) ^ 1
    writeFileSync(path, bytes)
  },
  empty: (path) => {
    writeFileSync(path, '')
  },
}

/** Creates a container of an image, and damages one of the image's documents, which only the store has. */
async function containerOfDamaged(world: World, loam: Loam, kind: 'config' | 'manifest', how: string) {
  const layout = join(world.folder, 'layout')
  writeOciLayout(layout, { image })
  await loam.images.put(layout, 'app:1')
  await loam.provision('app:1', { id: 'web', backend: 'copy' })
  rmSync(layout, { recursive: true })
  DAMAGES[how]?.(blobFile(world, image[kind].digest))
}

describe('a document of the store that cannot be read', () => {
  for (const [place, how] of Object.keys(DAMAGES).entries()) {
    for (const kind of byTurns(['config', 'manifest'] as const, place)) {
      test(`an unreadable ${kind} (${how}) is an error of each command that needs it`, async () => {
        using world = new World()
        await using registry = await RegistryServer.start()
        await using loam = await open(world)
        await containerOfDamaged(world, loam, kind, how)
        const isDamaged = (error: unknown) =>
          isLoamError(error, 'DOCUMENT_DAMAGED') && error.message.includes(kind)
        await assert.rejects(loam.images.inspect('app:1'), isDamaged)
        await assert.rejects(loam.push('app:1', { to: `${registry.host}/app:1` }), isDamaged)
        const output = join(world.folder, 'output')
        if (kind === 'config') {
          await assert.rejects(loam.export('web', { format: 'oci', output }), isDamaged)
          assert.ok(!existsSync(output))
        }
      })

      test(`an image with an unreadable ${kind} (${how}) is exported as a tar, listed, reported by fsck, and removed`, async () => {
        using world = new World()
        await using loam = await open(world)
        await containerOfDamaged(world, loam, kind, how)
        const output = join(world.folder, 'output')
        await loam.export('web', { format: 'tar', output })
        assert.equal(execFileSync('tar', ['-tf', output], { encoding: 'utf8' }).includes('file'), true)
        const [listed] = await loam.images.list()
        assert.match(listed?.damage ?? '', new RegExp(kind))
        assert.deepEqual(listed?.names.includes('docker.io/library/app:1'), true)
        const { problems } = await loam.store.fsck({ repair: false })
        assert.equal(problems.length, 1)
        assert.match(problems[0]?.problem ?? '', new RegExp(kind))
        await loam.destroy('web')
        for (const name of listed?.names ?? []) await loam.images.remove(name)
        assert.deepEqual(await loam.images.list(), [])
      })
    }
  }

  test('an image with an unreadable document is listed as damaged, and the others are listed beside it', async () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    const other = buildImage({ tars, config: { Cmd: ['other'] } })
    writeOciLayout(layout, { image, other })
    for (const name of ['image', 'other']) assert.equal(world.loam('pull', `oci:${layout}:${name}`).status, 0)
    rmSync(blobFile(world, other.config.digest))
    const { status, stdout, stderr } = world.loam('images')
    assert.equal(status, 0)
    assert.match(stdout, /:other .* damaged +local\n/)
    assert.match(stdout, /:image (?!.*damaged).*\n/)
    assert.match(stderr, new RegExp(`config ${other.config.digest}: it is missing`))
    // It is fetched from its source again.
    assert.equal(world.loam('provision', '--id', 'x', '--backend', 'copy', `oci:${layout}:other`).status, 0)
    assert.doesNotMatch(world.loam('images').stdout, /damaged/)
  })
})

describe('limits of documents', () => {
  const size = 10 << 20
  const large = buildImage({ tars, config: { Labels: { long: 'x'.repeat(size) } } })
  const raised = { limit_config_bytes: 2 * size, limit_manifest_bytes: 2 * size }

  /** Gives a manifest a long annotation. */
  function annotated(of: BuiltImage): BuiltImage {
    const value: object = JSON.parse(of.manifest.bytes.toString('utf8'))
    return buildImageWith(of, { ...value, annotations: { long: 'y'.repeat(size) } })
  }

  const archiveOf = (world: World): string => {
    const archive = join(world.folder, 'archive.tar')
    writeFileSync(archive, buildDockerArchive(large, tars, ['archived:1']))
    return archive
  }
  const labelsOf = async (loam: Loam, name: string): Promise<string[]> => {
    const { config } = (await loam.images.inspect(name)) as { config: { config: { Labels: object } } }
    return Object.keys(config.config.Labels)
  }

  test('with raised limits, images with documents of 10 MB are pulled from registries, layouts and archives', async () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    const huge = annotated(large)
    writeOciLayout(layout, { image: huge })
    await using server = await RegistryServer.start()
    server.addImage('large', '1', huge)
    await using loam = await open(world, raised)
    await loam.pull(`${server.host}/large:1`)
    await loam.pull(`oci:${layout}:image`)
    await loam.images.put(archiveOf(world), 'archived:2')
    assert.deepEqual(await labelsOf(loam, `${server.host}/large:1`), ['long'])
    assert.deepEqual((await loam.store.fsck({ repair: false })).problems, [])
    assert.deepEqual(
      (await loam.images.list()).map(({ damage }) => damage),
      [undefined, undefined],
    )
  })

  test('with raised limits, a container of an image with a config of 10 MB is exported and committed', async () => {
    using world = new World()
    await using loam = await open(world, raised)
    await loam.images.put(archiveOf(world), 'archived:2')
    await loam.provision('archived:2', { id: 'web', backend: 'overlay' })
    await loam.export('web', { format: 'oci', output: join(world.folder, 'out') })
    await loam.images.commit('web', 'committed:1')
    assert.deepEqual(await labelsOf(loam, 'committed:1'), ['long'])
    assert.deepEqual((await loam.store.fsck({ repair: false })).problems, [])
    assert.deepEqual(
      (await loam.images.list()).map(({ damage }) => damage),
      [undefined, undefined],
    )
    await loam.destroy('web')
  })

  const isTooLarge = (error: unknown) => isLoamError(error, 'DOCUMENT_TOO_LARGE')

  test('a pull of an image with a document of 10 MB is refused with the setting that would allow it', async () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    writeOciLayout(layout, { config: large, manifest: annotated(image) })
    await using server = await RegistryServer.start()
    server.addImage('large', 'config', large)
    server.addImage('large', 'manifest', annotated(image))
    await using loam = await open(world)
    const refused: readonly (readonly [string, string])[] = [
      [`oci:${layout}:config`, 'limit_config_bytes'],
      [`oci:${layout}:manifest`, 'limit_manifest_bytes'],
      [`${server.host}/large:config`, 'limit_config_bytes'],
      [`docker-archive:${archiveOf(world)}`, 'limit_config_bytes'],
    ]
    for (const [name, setting] of refused) {
      await assert.rejects(
        loam.pull(name),
        (error) => isLoamError(error, 'DOCUMENT_TOO_LARGE') && error.hint?.includes(setting) === true,
        name,
      )
    }
    await assert.rejects(loam.pull(`${server.host}/large:manifest`), isTooLarge)
    assert.deepEqual(await loam.images.list(), [])
  })

  test('an image of the store with a config above the limit is refused by each command that reads it', async () => {
    using world = new World()
    await using server = await RegistryServer.start()
    server.addImage('large', 'config', large)
    {
      await using loam = await open(world, raised)
      await loam.pull(`${server.host}/large:config`)
      await loam.provision(`${server.host}/large:config`, { id: 'web', backend: 'overlay' })
    }
    await using loam = await open(world)
    const output = join(world.folder, 'out')
    await assert.rejects(loam.images.inspect(`${server.host}/large:config`), isTooLarge)
    await assert.rejects(loam.export('web', { format: 'oci', output }), isTooLarge)
    await assert.rejects(loam.images.commit('web', 'committed:1'), isTooLarge)
    await assert.rejects(loam.provision(`${server.host}/large:config`), isTooLarge)
    assert.match(
      (await loam.store.fsck({ repair: false })).problems[0]?.problem ?? '',
      /the limit is 8388608/,
    )
    await loam.destroy('web')
  })
})

/** The same image with another manifest. */
function buildImageWith(of: BuiltImage, manifest: object): BuiltImage {
  const bytes = Buffer.from(JSON.stringify(manifest))
  return { ...of, manifest: { digest: digestOf(bytes), bytes } }
}

describe('indexes as builders write them', () => {
  let server: RegistryServer
  before(async () => {
    server = await RegistryServer.start()
  })
  after(async () => {
    await server[Symbol.asyncDispose]()
  })
  const foreign = buildImage({ tars, platform: { os: 'linux', architecture: 'riscv64' } })
  const describeImage = (of: BuiltImage, more: object = {}) => ({
    mediaType: of.mediaType,
    digest: of.manifest.digest,
    size: of.manifest.bytes.length,
    ...more,
  })
  const attestation = buildImageWith(image, {
    schemaVersion: 2,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: image.config.digest, size: 1 },
    layers: [{ mediaType: 'application/vnd.in-toto+json', digest: image.config.digest, size: 1 }],
  })
  const attests = (more: object = {}) =>
    describeImage(attestation, {
      platform: { os: 'unknown', architecture: 'unknown' },
      annotations: { 'vnd.docker.reference.type': 'attestation-manifest' },
      ...more,
    })
  const here = { os: 'linux', architecture: process.arch === 'arm64' ? 'arm64' : 'amd64' }
  const local = buildImage({ tars, platform: here })
  let count = 0
  /** Serves documents, and returns a reference of the first. */
  const serve = (manifests: unknown, ...nested: readonly BuiltImage[]): string => {
    count += 1
    for (const [at, one] of [local, foreign, attestation, ...nested].entries()) {
      server.addImage(`i${count}`, `t${at}`, one)
    }
    const index = buildImageWith(image, { schemaVersion: 2, mediaType: INDEX, manifests })
    server.addManifest(`i${count}`, 'index', index.manifest, INDEX)
    return `${server.host}/i${count}:index`
  }
  const nest = (...manifests: object[]): BuiltImage => ({
    ...buildImageWith(image, { schemaVersion: 2, mediaType: INDEX, manifests }),
    mediaType: INDEX,
  })

  const found: Readonly<Record<string, () => string>> = {
    'without a platform, beside its attestation': () => serve([attests(), describeImage(local)]),
    'with an empty platform': () =>
      serve([describeImage(local, { platform: { os: '', architecture: '' } }), attests()]),
    'with a platform of nulls': () => serve([describeImage(local, { platform: { os: null } })]),
    'of an unknown platform': () =>
      serve([describeImage(local, { platform: { os: 'unknown', architecture: 'unknown' } })]),
    'after an attestation that nobody marked': () =>
      serve([attests({ annotations: null }), describeImage(local)]),
    'after an image of another platform, neither with a platform': () =>
      serve([describeImage(foreign), describeImage(local)]),
    'without a platform, after one for another': () =>
      serve([
        describeImage(foreign, { platform: { os: 'linux', architecture: 'riscv64' } }),
        describeImage(local),
      ]),
    'without a media type': () => serve([describeImage(local, { mediaType: '' })]),
    'in an index in an index': () => {
      const inner = nest(attests(), describeImage(local, { platform: here }))
      const outer = nest(describeImage(inner))
      return serve([describeImage(outer), attests()], inner, outer)
    },
    'in the second of two nested indexes': () => {
      const [first, second] = [nest(describeImage(foreign)), nest(describeImage(local))]
      return serve([describeImage(first), describeImage(second)], first, second)
    },
    'beside artifacts': () =>
      serve([
        describeImage(attestation, { artifactType: 'application/x-sbom' }),
        describeImage(attestation, { mediaType: 'application/x-other' }),
        describeImage(local),
      ]),
  }
  for (const [how, reference] of Object.entries(found)) {
    test(`the image of an index ${how} is found, and found again in the store after a prune`, async () => {
      using world = new World()
      await using loam = await open(world)
      const name = reference()
      assert.equal((await loam.pull(name)).image.digest, local.manifest.digest)
      await loam.images.prune({ excluded: [name] })
      const earlier = server.requests.length
      await loam.provision(name, { id: 'web', backend: 'copy' })
      assert.equal(server.requests.length, earlier)
      await loam.destroy('web')
    })
  }

  test('an index without the platform is refused with the list of its content', async () => {
    using world = new World()
    await using loam = await open(world)
    const hint = async (reference: string) => {
      try {
        await loam.pull(reference)
      } catch (error) {
        if (isLoamError(error, 'PLATFORM_NOT_FOUND')) return error.hint
        throw error
      }
      return undefined
    }
    const riscv = describeImage(foreign, { platform: { os: 'linux', architecture: 'riscv64' } })
    assert.equal(
      await hint(serve([riscv, attests(), attests()])),
      'It has: linux/riscv64, 2 × attestation-manifest. Choose one with --platform.',
    )
    assert.equal(await hint(serve(null)), 'It has: nothing. Choose one with --platform.')
    assert.equal(
      await hint(serve([describeImage(attestation, { mediaType: 'application/x-other' })])),
      'It has: artifact application/x-other. Choose one with --platform.',
    )
    const endless = Array.from({ length: 200 }, () => describeImage(foreign))
    await assert.rejects(loam.pull(serve(endless)), (error) => isLoamError(error, 'DOCUMENT_INVALID'))
  })

  const layoutOf = (world: World, manifests: unknown, more: object = {}): string => {
    const layout = join(world.folder, `layout-${(count += 1)}`)
    writeOciLayout(layout, { local, foreign, attestation })
    writeFileSync(join(layout, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests, ...more }))
    return layout
  }
  const named = (name: string) => ({ annotations: { 'org.opencontainers.image.ref.name': name } })

  test('the image of a layout is found beside attestations, under several names, and by its platform', async () => {
    using world = new World()
    await using loam = await open(world)
    const riscv = { platform: { os: 'linux', architecture: 'riscv64' } }
    const layouts: readonly (readonly [unknown, string])[] = [
      [[attests(), describeImage(local)], ''],
      [[describeImage(local, named('a')), describeImage(local, named('b'))], ''],
      [[describeImage(foreign, riscv), describeImage(local, { platform: here })], ''],
      [
        [
          describeImage(foreign, { ...riscv, ...named('x') }),
          describeImage(local, { platform: here, ...named('x') }),
        ],
        ':x',
      ],
      [[describeImage(local, { ...named('x'), platform: null })], ':x'],
    ]
    for (const [manifests, selector] of layouts) {
      const { image: pulled } = await loam.pull(`oci:${layoutOf(world, manifests)}${selector}`)
      assert.equal(pulled.digest, local.manifest.digest)
    }
  })

  test('a layout that does not determine the image is refused with the list of its content', async () => {
    using world = new World()
    await using loam = await open(world)
    for (const [manifests, told] of [
      [[describeImage(local, named('a')), describeImage(foreign, named('b'))], /by name or digest: a, b/],
      [[describeImage(local), describeImage(foreign)], /an image without a platform/],
      [null, /empty/],
    ] as const) {
      await assert.rejects(
        loam.pull(`oci:${layoutOf(world, manifests)}`),
        (error) => isLoamError(error, 'IMAGE_NOT_FOUND') && told.test(error.hint ?? ''),
      )
    }
  })
})
