// The images that a prune removes and keeps: those that can be fetched again, and local ones.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { type Loam, openLoam } from '../../src/index.ts'
import { MetadataStore, snapshotKey } from '../../src/metadata/index.ts'
import {
  buildImage,
  buildMetaImage,
  buildTar,
  RegistryServer,
  writeOciLayout,
} from '../../src/testing/index.ts'
import { DebianRegistry, gather, must, World } from '../support/world.ts'

const imageOf = (text: string, architecture = 'amd64') =>
  buildImage({
    tars: [buildTar([{ name: text, data: text }])],
    platform: { os: 'linux', architecture },
  })

/** Writes a layout with an index of two platforms for each name. */
function writeIndexes(layout: string, names: readonly string[]): void {
  const manifests = names.map((name) => {
    const images = ['amd64', 'arm64'].map((architecture) => ({
      image: imageOf(name, architecture),
      platform: { os: 'linux', architecture },
    }))
    writeOciLayout(layout, Object.fromEntries(images.map(({ image }, index) => [`${index}`, image])))
    const { blob, mediaType } = buildMetaImage(images)
    const { digest, bytes } = blob
    writeFileSync(join(layout, 'blobs', digest.replace(':', '/')), bytes)
    const annotations = { 'org.opencontainers.image.ref.name': name }
    return { mediaType, digest, size: bytes.length, annotations }
  })
  writeFileSync(join(layout, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }))
}

/** Bases a snapshot on an image's layer, as those of clients that name layers are. */
async function keepBySnapshot(world: World, loam: Loam, name: string): Promise<void> {
  const image = (await loam.images.list()).find(({ names }) => names.includes(name))
  using metadata = await MetadataStore.open(join(world.root, 'metadata.db'), {
    lockFile: join(world.root, 'locks/test'),
  })
  await metadata.snapshots.exclusively(() =>
    metadata.snapshots.insert({
      key: snapshotKey(name),
      kind: 'committed',
      labels: {},
      idMapping: undefined,
      maxBytes: undefined,
      createdUs: 0,
      sizeBytes: 0,
      inodes: 0,
      parentId: undefined,
      diffId: image?.layers[0]?.diffId,
      chainId: image?.chainId,
    }),
  )
}

describe('prune', async () => {
  const server = await RegistryServer.start()
  after(async () => server[Symbol.asyncDispose]())
  const open = async (world: World, flags: Record<string, string> = {}) =>
    openLoam({
      file: null,
      flags: { root: world.root, state: join(world.folder, 'state'), ...flags },
      env: process.env,
    })
  const reference = (name: string) => `${server.host}/${name}:1`

  /** One image of each kind: named, unnamed, used, committed, put, and read from a layout and from an archive. */
  const fill = async (world: World, loam: Loam): Promise<void> => {
    for (const name of ['named', 'moved', 'used', 'base']) server.addImage(name, '1', imageOf(name))
    for (const name of ['named', 'moved', 'used', 'base']) await loam.pull(reference(name))
    server.addImage('moved', '1', imageOf('moved to'))
    await loam.pull(reference('moved'))
    await loam.provision(reference('used'), { id: 'user' })
    const { rootfsPath } = await loam.provision(reference('base'), { id: 'writer' })
    writeFileSync(join(rootfsPath, 'new'), 'written')
    await loam.images.commit('writer', 'example.com/committed:1')
    await loam.destroy('writer')
    const layout = join(world.folder, 'layout')
    writeOciLayout(layout, { put: imageOf('put'), read: imageOf('read') })
    await loam.images.put(`oci:${layout}:put`, 'example.com/put:1')
    await loam.pull(`oci:${layout}:read`)
    const archive = join(world.folder, 'archive.tar')
    rmSync(archive, { force: true })
    must(
      'skopeo',
      'copy',
      '-q',
      '--insecure-policy',
      `oci:${layout}:read`,
      `docker-archive:${archive}:example.com/read:1`,
    )
    await loam.pull(`docker-archive:${archive}:example.com/read:1`)
  }
  const left = async (loam: Loam): Promise<string[]> =>
    (await loam.images.list())
      .map(
        ({ names }) =>
          /\/([a-z]+):1$|:(read)$/
            .exec(names[0] ?? '')
            ?.slice(1)
            .join('') ?? 'unnamed',
      )
      .toSorted()
  const ALL = ['base', 'committed', 'moved', 'named', 'put', 'read', 'read', 'unnamed', 'used']
  const LOCAL = ['committed', 'put', 'read', 'read']

  const cases: readonly (readonly [string, Parameters<Loam['images']['prune']>[0], readonly string[]])[] = [
    ['takes an unnamed image and keeps all others', {}, ALL.filter((name) => name !== 'unnamed')],
    ['with `all` removes named ones, and keeps local ones', { all: true }, [...LOCAL, 'used']],
    [
      'with `local` removes local ones, and keeps named ones of a registry',
      { local: true },
      ['base', 'moved', 'named', 'used'],
    ],
    ['with both takes all that no container uses', { all: true, local: true }, ['used']],
    [
      'with a list of images to keep removes the others, except local ones',
      { excluded: [reference('named')] },
      [...LOCAL, 'named', 'used'],
    ],
  ]
  test('prune removes each kind of image by its own flag alone', async () => {
    using world = new World()
    for (const [what, options, expected] of cases) {
      await using loam = await open(world)
      await fill(world, loam)
      assert.deepEqual(await left(loam), ALL)
      assert.deepEqual((await loam.images.list()).filter(({ isLocal }) => isLocal).length, LOCAL.length)
      const would = await loam.images.prune({ ...options, dryRun: true })
      assert.deepEqual(await left(loam), ALL)
      const did = await loam.images.prune(options)
      assert.deepEqual(await left(loam), [...expected].toSorted(), what)
      assert.deepEqual(
        did.images.map(({ digest }) => digest).toSorted(),
        would.images.map(({ digest }) => digest).toSorted(),
        what,
      )
      // The remaining images are complete.
      assert.deepEqual((await loam.store.fsck({ repair: false })).problems, [], what)
      await loam.destroy('user')
      await loam.images.prune({ all: true, local: true })
      assert.deepEqual(await left(loam), [])
    }
  })

  test('prune does not treat an image as local that was pushed, or that a registry has, too', async () => {
    using world = new World()
    await using loam = await open(world)
    await fill(world, loam)
    const layout = join(world.folder, 'layout')
    using registry = await DebianRegistry.start()
    await loam.push('example.com/committed:1', { to: `${registry.host}/committed:1` })
    server.addImage('put', '1', imageOf('put'))
    await loam.pull(reference('put'))
    // And vice versa.
    writeOciLayout(layout, { named: imageOf('named') })
    await loam.pull(`oci:${layout}:named`)
    assert.deepEqual(
      (await loam.images.list()).flatMap(({ isLocal, names }) => (isLocal ? (names[0]?.slice(-6) ?? '') : []))
        .length,
      2,
    )
    await loam.images.prune({ all: true })
    assert.deepEqual(await left(loam), ['read', 'read', 'used'])
    await loam.destroy('user')
  })

  test('automatic collection never removes local images, however little space is free', async () => {
    using world = new World()
    const config = JSON.stringify({
      image_disk_headroom: 1,
      image_disk_watch_interval: { nanoseconds: 1_000_000_000 },
      stores: { docker: { high_bytes: 1, low_bytes: 0 } },
    })
    await using loam = await open(world, { image_gc_config: config })
    await fill(world, loam)
    await loam.images.collect()
    assert.deepEqual(await left(loam), [...LOCAL, 'used'].toSorted())
    await loam.destroy('user')
  })

  test('automatic collection removes the least recently used of the removable images, and counts only their space as freed', async () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    writeOciLayout(layout, { own: imageOf('own') })
    const names = ['held', 'older', 'newer']
    for (const name of names) server.addImage(name, '1', imageOf(name))
    let bytes = 0
    {
      await using loam = await open(world)
      // The two oldest are one that may not be removed, and one that frees nothing.
      await loam.pull(`oci:${layout}:own`)
      for (const name of names) await loam.pull(reference(name))
      await keepBySnapshot(world, loam, reference('held'))
      const would = await loam.images.prune({ all: true, local: true, dryRun: true })
      bytes = would.layers.reduce((sum, { tarBytes }) => sum + tarBytes, 0)
    }
    const config = JSON.stringify({
      image_disk_headroom: 0,
      image_disk_watch_interval: { nanoseconds: 1_000_000_000 },
      stores: { docker: { high_bytes: bytes, low_bytes: bytes } },
    })
    await using loam = await open(world, { image_gc_config: config })
    const report = await loam.images.collect()
    assert.equal(report.freedBytes, report.wantedBytes)
    assert.ok(report.freedBytes > 0)
    assert.deepEqual(
      (await loam.images.list()).map(({ names: [name] }) => name),
      [`oci:${layout}:own`, reference('newer')],
    )
  })

  test('a dry run of prune names the objects that a prune then removes, also if snapshots keep layers', async () => {
    using world = new World()
    await using loam = await open(world)
    for (const name of ['one', 'two']) {
      server.addImage(name, '1', imageOf(name))
      await loam.pull(reference(name))
    }
    await keepBySnapshot(world, loam, reference('one'))
    const would = await loam.images.prune({ all: true, dryRun: true })
    const did = await loam.images.prune({ all: true })
    assert.deepEqual([would.images.length, would.layers.length], [2, 1])
    assert.deepEqual({ ...did, blobs: [] }, would)
  })

  test('prune treats an index that was pushed as local on no platform', async () => {
    using world = new World()
    await using loam = await open(world)
    const layout = join(world.folder, 'layout')
    using registry = await DebianRegistry.start()
    writeIndexes(layout, ['pushed', 'kept'])
    for (const architecture of ['amd64', 'arm64']) {
      for (const name of ['pushed', 'kept'])
        await loam.pull(`oci:${layout}:${name}`, { platform: { os: 'linux', architecture } })
    }
    const local = async () =>
      (await loam.images.list()).flatMap(({ isLocal, names }) => (isLocal ? names : []))
    assert.equal((await local()).length, 4)
    await loam.push(`oci:${layout}:pushed`, { to: `${registry.host}/pushed:1` })
    assert.deepEqual(await local(), [`oci:${layout}:kept`, `oci:${layout}:kept`])
    const one = { os: 'linux', architecture: 'arm64' }
    await loam.push(`oci:${layout}:kept`, { to: `${registry.host}/kept:1`, platform: one })
    assert.deepEqual(await local(), [`oci:${layout}:kept`])
  })

  test('prune asks on a terminal and reports in three lines, and does not ask elsewhere', async () => {
    using world = new World()
    for (const name of ['one', 'two']) server.addImage(name, '1', imageOf(name))
    const run = async (...args: readonly string[]) => {
      const result = await world.loamAsync(...args)
      assert.equal(result.status, 0, result.stderr)
      return result.stdout
    }
    for (const name of ['one', 'two']) await run('pull', reference(name))
    const layout = join(world.folder, 'layout')
    writeOciLayout(layout, { own: imageOf('own') })
    await run('put', `oci:${layout}:own`, 'example.com/own:1')
    const listed = (await run('images')).split('\n')
    assert.match(listed.find((line) => line.includes('own:1')) ?? '', /local$/)
    assert.match(listed.find((line) => line.includes('/one:1')) ?? '', /registry$/)
    const count = async () => JSON.parse(await run('--json', 'images')).length
    const onTerminal = async (answer: string, ...args: readonly string[]) => {
      const command = [process.execPath, ...world.args('prune', ...args)].map((word) => `'${word}'`).join(' ')
      const child = spawn('script', ['-qec', command, '/dev/null'], { stdio: ['pipe', 'pipe', 'inherit'] })
      const output = gather(child.stdout)
      child.stdout.on('data', () => {
        if (output().includes('[y/N]') && child.stdin.writable) child.stdin.end(answer)
      })
      const status = await new Promise((resolve) => child.once('close', resolve))
      return { status, text: output() }
    }
    const no = await onTerminal('n\n', '--all')
    assert.match(no.text, /would remove 2 images: .*one:1, .*two:1[\s\S]*would free at least[\s\S]*\[y\/N\]/)
    assert.deepEqual([no.status, await count()], [0, 3])
    assert.equal((await onTerminal('\n', '--all')).status, 0)
    assert.equal(await count(), 3)
    // Without anything to remove there is no question.
    assert.doesNotMatch((await onTerminal('')).text, /y\/N/)
    const yes = await onTerminal('y\n', '--all')
    assert.match(yes.text, /removed 2 images/)
    assert.equal(await count(), 1)
    const local = (await run('prune', '--local', '--yes')).trim().split('\n')
    assert.deepEqual(local.length, 3)
    assert.equal(local[0], 'removed 1 image: example.com/own:1')
    assert.equal(await count(), 0)
    assert.ok(existsSync(world.root))
  })
})
