// The store as its users see it: read-through, repair, removal, recovery, configuration.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { DatabaseSync } from 'node:sqlite'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { FileLock } from '../../src/linux/index.ts'
import {
  buildDockerArchive,
  buildImage,
  buildMetaImage,
  buildTar,
  RegistryServer,
  writeOciLayout,
} from '../../src/testing/index.ts'
import { must, World } from '../support/world.ts'

const tars = [buildTar([{ name: 'base', data: 'base' }]), buildTar([{ name: 'top', data: 'top' }])]
const image = buildImage({ tars })

describe('the store', () => {
  let server: RegistryServer
  before(async () => {
    server = await RegistryServer.start()
  })
  after(async () => {
    await server[Symbol.asyncDispose]()
  })
  const ok = async (world: World, ...args: string[]) => {
    const result = await world.loamAsync(...args)
    assert.equal(result.status, 0, result.stderr)
    return result.stdout.trim()
  }

  test('a pulled image needs no registry, by tag and by digest', async () => {
    using world = new World()
    server.addImage('cache', '1', image)
    const reference = `${server.host}/cache:1`
    await ok(world, 'pull', reference)
    const earlier = server.requests.length
    await ok(world, 'provision', '--id', 'a', reference)
    await ok(world, 'provision', '--id', 'b', `${server.host}/cache@${image.manifest.digest}`)
    await ok(world, 'pull', `${server.host}/cache@${image.manifest.digest}`)
    assert.equal(server.requests.length, earlier)
    await ok(world, 'destroy', 'a', 'b')
  })

  test('provision --pull asks the registry for the manifest alone', async () => {
    using world = new World()
    server.addImage('cache', '1', image)
    const reference = `${server.host}/cache:1`
    await ok(world, 'pull', reference)
    const earlier = server.requests.length
    await ok(world, 'provision', '--pull', '--id', 'c', reference)
    assert.deepEqual(
      server.requests.slice(earlier).filter((line) => line !== 'GET /v2/'),
      ['GET /v2/cache/manifests/1'],
    )
    await ok(world, 'destroy', 'c')
  })

  test('pulling a moved tag gives new containers the new image, and running ones keep theirs', async () => {
    using world = new World()
    const reference = `${server.host}/moving:latest`
    server.addImage('moving', 'latest', image)
    const first = await ok(world, 'provision', '--id', 'old', reference)
    const changed = buildImage({ tars: [tars[0]!, buildTar([{ name: 'top', data: 'changed' }])] })
    server.addImage('moving', 'latest', changed)
    assert.equal(await ok(world, 'pull', reference), changed.manifest.digest)
    const second = await ok(world, 'provision', '--id', 'new', reference)
    assert.equal(readFileSync(join(first, 'top'), 'utf8'), 'top')
    assert.equal(readFileSync(join(second, 'top'), 'utf8'), 'changed')
    await ok(world, 'prune')
    assert.equal(readFileSync(join(first, 'top'), 'utf8'), 'top')
    await ok(world, 'destroy', 'old', 'new')
  })

  test('a layer that was lost or cut is fetched again, and nothing else', async () => {
    using world = new World()
    server.addImage('heal', '1', image)
    const reference = `${server.host}/heal:1`
    await ok(world, 'pull', reference)
    rmSync(join(world.root, 'layers', image.diffIds[0]!), { recursive: true })
    writeFileSync(join(world.root, 'layers', image.diffIds[1]!, 'layer.tar'), 'cut')
    const earlier = server.requests.length
    const path = await ok(world, 'provision', '--id', 'c', reference)
    assert.deepEqual(readdirSync(path).toSorted(), ['base', 'top'])
    const blobs = server.requests
      .slice(earlier)
      .filter((line) => line.includes('/blobs/'))
      .toSorted()
    assert.deepEqual(blobs, image.layers.map(({ digest }) => `GET /v2/heal/blobs/${digest}`).toSorted())
    await ok(world, 'destroy', 'c')
  })

  test('a corrupt config is fetched again, and nothing else', async () => {
    using world = new World()
    server.addImage('heal', '1', image)
    const reference = `${server.host}/heal:1`
    await ok(world, 'pull', reference)
    writeFileSync(join(world.root, 'blobs/sha256', image.config.digest.slice(7)), 'rot')
    const earlier = server.requests.length
    await ok(world, 'provision', '--id', 'd', reference)
    assert.deepEqual(
      server.requests.slice(earlier).filter((line) => line.includes('/blobs/')),
      [`GET /v2/heal/blobs/${image.config.digest}`],
    )
    await ok(world, 'destroy', 'd')
  })

  test('an index gives the image of the platform, and a missing platform is reported with the existing ones', async () => {
    using world = new World()
    const arm = buildImage({
      tars: [buildTar([{ name: 'arm' }])],
      platform: { os: 'linux', architecture: 'arm64', variant: 'v8' },
    })
    const v3 = buildImage({
      tars: [buildTar([{ name: 'v3' }])],
      platform: { os: 'linux', architecture: 'amd64', variant: 'v3' },
    })
    const platforms = [
      { image: arm, platform: { os: 'linux', architecture: 'arm64', variant: 'v8' } },
      { image, platform: { os: 'linux', architecture: 'amd64' } },
      { image: v3, platform: { os: 'linux', architecture: 'amd64', variant: 'v3' } },
    ]
    const index = buildMetaImage(platforms)
    for (const { image: one } of platforms) server.addImage('multi', one.manifest.digest, one)
    server.addManifest('multi', '1', index.blob, index.mediaType)
    const reference = `${server.host}/multi:1`
    const names = async (platform: string) => {
      const path = await ok(
        world,
        'provision',
        '--platform',
        platform,
        '--id',
        platform.replaceAll('/', '-'),
        reference,
      )
      return readdirSync(path)
    }
    assert.deepEqual(await names('linux/arm64'), ['arm'])
    assert.deepEqual(await names('linux/amd64'), ['base', 'top'])
    assert.deepEqual(await names('linux/amd64/v4'), ['v3'])
    assert.equal(await ok(world, 'pull', reference), index.blob.digest)
    const missing = await world.loamAsync('--json', 'pull', '--platform', 'linux/s390x', reference)
    assert.equal(missing.status, 1)
    assert.match(JSON.parse(missing.stderr).error.hint, /linux\/arm64/)
    await ok(world, 'recover', '--known', 'none-of-them')
    assert.deepEqual(world.mounts(), [])
  })

  const createLayout = (world: World): string => {
    const layout = join(world.folder, 'a folder: with, odd name')
    writeOciLayout(layout, { one: image, 'docker.io/x/y:2': buildImage({ tars: [tars[0]!] }) })
    return layout
  }
  const createArchive = (world: World): string => {
    const archive = join(world.folder, 'oci.tar')
    must('tar', '-C', createLayout(world), '-cf', archive, '.')
    return archive
  }
  const namesIn = async (world: World, reference: string) =>
    readdirSync(await ok(world, 'provision', '--id', 'c', reference)).toSorted()

  test('an OCI layout is read by tag, by digest and by a name with a host', async () => {
    using world = new World()
    const layout = createLayout(world)
    assert.equal(await ok(world, 'pull', `oci:${layout}:one`), image.manifest.digest)
    assert.equal(await ok(world, 'pull', `oci:${layout}@${image.manifest.digest}`), image.manifest.digest)
    await ok(world, 'pull', `oci:${layout}:docker.io/x/y:2`)
  })

  test('a tag that an OCI layout does not have is reported with those that it has', async () => {
    using world = new World()
    const none = await world.loamAsync('--json', 'pull', `oci:${createLayout(world)}:none`)
    assert.match(JSON.parse(none.stderr).error.hint, /one/)
  })

  test('an OCI archive is read as oci-archive and as oci', async () => {
    using world = new World()
    const archive = createArchive(world)
    assert.equal(await ok(world, 'pull', `oci-archive:${archive}:one`), image.manifest.digest)
    assert.equal(await ok(world, 'pull', `oci:${archive}:one`), image.manifest.digest)
  })

  test('an archive of docker save is read plain and packed, and its names are names of the image', async () => {
    using world = new World()
    const saved = buildDockerArchive(image, tars, ['app:1', 'registry.example/app:2'])
    const plain = join(world.folder, 'saved.tar')
    writeFileSync(plain, saved)
    writeFileSync(`${plain}.gz`, gzipSync(saved))
    const digest = await ok(world, 'pull', `docker-archive:${plain}`)
    assert.equal(await ok(world, 'pull', `docker-archive:${plain}.gz`), digest)
    assert.equal(await ok(world, 'pull', `docker-archive:${plain}:app:1`), digest)
    // No registry is asked.
    assert.deepEqual(await namesIn(world, 'app:1'), ['base', 'top'])
    await ok(world, 'destroy', 'c')
  })

  test('a docker-archive of skopeo has the files of its image', async () => {
    using world = new World()
    const written = join(world.folder, 'skopeo.tar')
    must(
      'skopeo',
      'copy',
      '-q',
      `oci-archive:${createArchive(world)}:one`,
      `docker-archive:${written}:made/by:skopeo`,
    )
    assert.deepEqual(await namesIn(world, `docker-archive:${written}`), ['base', 'top'])
    await ok(world, 'destroy', 'c')
  })

  test('an archive that does not exist is reported', async () => {
    using world = new World()
    const { stderr } = await world.loamAsync('--json', 'pull', `docker-archive:${world.path('nothing.tar')}`)
    assert.equal(JSON.parse(stderr).error.code, 'SOURCE_NOT_FOUND')
  })

  const pullRemovable = async (world: World) => {
    server.addImage('gone', '1', image)
    server.addImage('gone', '2', image)
    server.addImage('kept', '1', buildImage({ tars: [tars[0]!] }))
    for (const name of ['gone:1', 'gone:2', 'kept:1']) await ok(world, 'pull', `${server.host}/${name}`)
  }

  test('rmi removes a name, and never an image that is in use', async () => {
    using world = new World()
    await pullRemovable(world)
    await ok(world, 'provision', '--id', 'c', `${server.host}/gone:1`)
    await ok(world, 'rmi', `${server.host}/gone:2`)
    await ok(world, 'provision', '--id', 'd', `${server.host}/gone:1`)
    const used = await world.loamAsync('--json', 'rmi', `${server.host}/gone:1`)
    const { code, hint } = JSON.parse(used.stderr).error
    assert.deepEqual([code, hint], ['IMAGE_IN_USE', 'Destroy them first: loam destroy c d'])
    const dry = world.json('prune', '--all', '--dry-run')
    assert.deepEqual([dry.images.length, dry.layers.length], [1, 0])
    await ok(world, 'destroy', 'c', 'd')
  })

  test('tag gives an image another name, and untag removes a name and never an image', async () => {
    using world = new World()
    await pullRemovable(world)
    const [old, made] = [`${server.host}/kept:1`, 'registry.test/made:1']
    const digestOf = async (name: string) =>
      JSON.parse(await ok(world, '--json', 'inspect', name)).image.digest
    assert.equal((await ok(world, 'tag', old, made)).trim(), await digestOf(old))
    const more = JSON.parse(await ok(world, '--json', 'tag', made, 'registry.test/more:1'))
    assert.equal(more.name, 'registry.test/more:1')
    const taken = await world.loamAsync('--json', 'tag', `${server.host}/gone:1`, old)
    assert.equal(JSON.parse(taken.stderr).error.code, 'NAME_TAKEN')
    for (const name of [old, made]) assert.equal((await ok(world, 'untag', name)).trim(), name)
    assert.equal(JSON.parse(await ok(world, '--json', 'untag', more.name)).images.length, 1)
    assert.equal(world.json('images').filter(({ names }) => names.length === 0).length, 1)
    const missing = await world.loamAsync('--json', 'untag', made)
    assert.equal(JSON.parse(missing.stderr).error.code, 'IMAGE_NOT_FOUND')
  })

  test('prune removes images with the layers that no other image has, except excluded ones', async () => {
    using world = new World()
    await pullRemovable(world)
    const pruned = world.json('prune', '--exclude', `${server.host}/kept:1`)
    assert.deepEqual(
      pruned.images.map(({ digest }) => digest),
      [image.manifest.digest],
    )
    assert.deepEqual(
      pruned.layers.map(({ diffId }) => diffId),
      [image.diffIds[1]],
    )
    assert.deepEqual(readdirSync(join(world.root, 'layers')), [image.diffIds[0]])
  })

  test('prune --all leaves an empty store', async () => {
    using world = new World()
    await pullRemovable(world)
    await ok(world, 'prune', '--all')
    for (const folder of ['layers', 'images', 'containers', 'trash', 'ingest', 'blobs/sha256'])
      assert.deepEqual(readdirSync(join(world.root, folder)), [], folder)
  })

  test('recover remounts complete root filesystems after a reboot, with the data written to them, and undoes the rest', async () => {
    using world = new World()
    server.addImage('boot', '1', image)
    const reference = `${server.host}/boot:1`
    const path = await ok(world, 'provision', '--id', 'c', reference)
    const copied = await ok(world, 'provision', '--id', 'copied', '--backend', 'copy', reference)
    writeFileSync(join(path, 'written'), 'by the container')
    await ok(world, 'provision', '--id', 'half', reference)
    // A reboot: no mount is left, the boot has another id, and one root filesystem was being created.
    for (const mount of world.mounts().toReversed()) must('umount', mount)
    const database = new DatabaseSync(join(world.root, 'metadata.db'))
    database.exec(
      `UPDATE rootfses SET boot_id = 'before'; UPDATE artifacts SET boot_id = 'before'; UPDATE rootfses SET state = 'provisioning' WHERE container_id = 'half'`,
    )
    database.close()
    const report = world.json('recover')
    assert.deepEqual(
      [report.restored.toSorted(), report.undone.length, report.failed],
      [[path, copied].toSorted(), 1, []],
    )
    assert.equal(readFileSync(join(path, 'written'), 'utf8'), 'by the container')
    assert.equal(readFileSync(join(path, 'top'), 'utf8'), 'top')
    assert.equal(existsSync(join(world.root, 'containers/half')), false)
    const again = world.json('recover')
    assert.deepEqual([again.kept.length, again.restored, again.undone, again.swept], [2, [], [], []])
    await ok(world, 'destroy', 'c', 'copied')
  })

  test('recover removes containers that are not known, and directories without a row', async () => {
    using world = new World()
    server.addImage('boot', '1', image)
    for (const id of ['c', 'copied'])
      await ok(world, 'provision', '--id', id, '--backend', 'copy', `${server.host}/boot:1`)
    mkdirSync(join(world.root, 'containers/orphan/rootfses'), { recursive: true })
    const swept = world.json('recover', '--known', 'c')
    assert.deepEqual(swept.undone, ['copied'])
    assert.deepEqual(swept.swept, [join(world.root, 'containers/orphan')])
    await ok(world, 'destroy', 'c')
  })

  test('artifacts of a layer are rebuilt from its tar, and no change of backend fetches anything', async () => {
    using world = new World()
    server.addImage('forms', '1', image)
    await ok(world, 'pull', `${server.host}/forms:1`)
    const earlier = server.requests.length
    const layer = join(world.root, 'layers', image.diffIds[0]!)
    const stack = join(world.root, 'images')
    const forms = ['fs', 'layer.erofs'].map((name) => join(layer, name))
    for (const round of [1, 2]) {
      for (const backend of ['erofs', 'overlay', 'copy']) {
        const id = `${backend}-${round}`
        const path = await ok(world, 'provision', '--id', id, '--backend', backend, `${server.host}/forms:1`)
        assert.deepEqual(readdirSync(path).toSorted(), ['base', 'top'])
        await ok(world, 'destroy', id)
      }
      for (const form of forms) rmSync(form, { recursive: true, force: true })
      rmSync(stack, { recursive: true })
    }
    assert.equal(server.requests.length, earlier)
  })

  test('prune removes layers and stacks without a row, and none that is being created', async () => {
    using world = new World()
    server.addImage('rows', '1', image)
    await ok(world, 'provision', '--id', 'a', `${server.host}/rows:1`)
    const layers = readdirSync(join(world.root, 'layers'))
    const stacks = readdirSync(join(world.root, 'images'))
    const [orphan, held] = ['a', 'b'].map((letter) => `sha256:${letter.repeat(64)}`)
    assert.ok(orphan !== undefined && held !== undefined)
    for (const digest of [orphan, held]) {
      mkdirSync(join(world.root, 'layers', digest))
      writeFileSync(join(world.root, 'layers', digest, 'layer.tar'), 'half')
    }
    mkdirSync(join(world.root, 'images', orphan))
    writeFileSync(join(world.root, 'images', orphan, 'merged.erofs'), 'half')
    {
      using _lock = FileLock.tryAcquire(join(world.root, 'locks', `layer-${held.replace(':', '-')}`))
      await ok(world, 'prune')
      assert.deepEqual(readdirSync(join(world.root, 'layers')).toSorted(), [...layers, held].toSorted())
      assert.deepEqual(readdirSync(join(world.root, 'images')), stacks)
    }
    await ok(world, 'prune')
    assert.deepEqual(readdirSync(join(world.root, 'layers')).toSorted(), layers.toSorted())
    await ok(world, 'destroy', 'a')
  })

  test('prune removes the directories of layers that no root filesystem uses, and keeps the layers', async () => {
    using world = new World()
    server.addImage('folders', '1', image)
    const folder = join(world.root, 'layers', image.diffIds[0]!, 'fs')
    await ok(world, 'provision', '--id', 'a', '--backend', 'overlay', `${server.host}/folders:1`)
    await ok(world, 'prune')
    assert.equal(existsSync(folder), true)
    await ok(world, 'provision', '--id', 'b', `${server.host}/folders:1`)
    await ok(world, 'destroy', 'a')
    await ok(world, 'prune')
    assert.equal(existsSync(folder), false)
    assert.deepEqual(readdirSync(join(folder, '..')).toSorted(), ['layer.erofs', 'layer.tar'])
    await ok(world, 'destroy', 'b')
  })

  const sharedMounts = (world: World) => world.mounts().filter((path) => path.includes('/state/images/'))

  test('the mount of an image is shared, and unmounted with its last root filesystem', async () => {
    using world = new World()
    server.addImage('shared', '1', image)
    for (const id of ['a', 'a/nested', 'b'])
      await ok(world, 'provision', '--id', id, `${server.host}/shared:1`)
    await ok(world, 'provision', '--id', 'c', '--read-only', `${server.host}/shared:1`)
    assert.equal(sharedMounts(world).length, 1)
    for (const id of ['a', 'b']) {
      await ok(world, 'destroy', id)
      assert.equal(sharedMounts(world).length, 1)
    }
    await ok(world, 'destroy', 'c')
    assert.deepEqual(world.mounts(), [])
  })

  test('recover unmounts a shared mount that a killed process has left', async () => {
    using world = new World()
    server.addImage('shared', '1', image)
    await ok(world, 'provision', '--id', 'a', `${server.host}/shared:1`)
    const [path = ''] = sharedMounts(world)
    const other = join(path, '..', `sha256-${'0'.repeat(64)}`)
    mkdirSync(other)
    must('mount', '--bind', path, other)
    assert.deepEqual(world.json('recover').swept, [other])
    assert.equal(sharedMounts(world).length, 1)
    await ok(world, 'destroy', 'a')
    assert.deepEqual(world.mounts(), [])
  })
})

describe('the command line', () => {
  const oldNode = ['/usr/bin/node', '/usr/local/bin/node'].find(
    (path) => existsSync(path) && /^v(?:1\d|2[0-3])\./.test(must(path, '--version')),
  )
  test('an old Node is refused with the required version', { skip: oldNode === undefined }, () => {
    using world = new World()
    const { status, stderr } = spawnSync(oldNode ?? '', world.args('ps'), { encoding: 'utf8' })
    assert.equal(status, 1)
    assert.match(stderr, /^loam: needs Node 24\.15 or newer.*\nhint: .*npm install --global loamfs/)
  })

  test('wrong usage ends with 2 and a message', () => {
    using world = new World()
    for (const args of [
      ['nothing'],
      ['pull'],
      ['pull', '--wrong', 'x'],
      ['pull', 'UPPER'],
      ['pull', '--platform', 'x', 'a'],
      ['provision', '--id', '../x', 'a'],
      ['provision', '--backend', 'zfs', 'a'],
      [],
    ]) {
      const { status, stderr } = world.loam(...args)
      assert.equal(status, 2, `${args.join(' ')}: ${stderr}`)
      assert.notEqual(stderr, '')
    }
  })

  test('help and the version go to standard output', () => {
    using world = new World()
    assert.equal(world.loam('--help').status, 0)
    assert.match(world.loam('run', '--help').stdout, /loam run busybox -- echo hello/)
    assert.match(world.loam('--version').stdout, /^\d+\.\d+\.\d+\n$/)
  })

  test('settings come from flags, the environment and a file, in that order, and name their origin', () => {
    using world = new World()
    const file = join(world.folder, 'config.toml')
    writeFileSync(file, 'registry_tries = 7\ndocker-stall-timeout = "2mins"\nruntime = "crun"\n')
    const rows = JSON.parse(
      world.loamWith({ LOAM_RUNTIME: 'youki' }, '--json', 'config', '--config', file).stdout,
    )
    const row = (name: string) => rows.find((one: { name: string }) => one.name === name)
    assert.deepEqual([row('registry_tries').value, row('registry_tries').origin], [7, file])
    assert.equal(row('fetcher_stall_timeout').value, 120_000)
    assert.deepEqual([row('runtime').value, row('runtime').origin], ['youki', 'LOAM_RUNTIME'])
    assert.deepEqual([row('root').value, row('root').origin], [world.root, 'flag'])
    assert.equal(row('connect_timeout').origin, 'default')
  })

  test('an invalid setting of the environment is reported by its variable', () => {
    using world = new World()
    const wrong = world.loamWith({ LOAM_REGISTRY_TRIES: 'many' }, '--json', 'config')
    assert.equal(wrong.status, 1)
    assert.match(JSON.parse(wrong.stderr).error.message, /LOAM_REGISTRY_TRIES.*whole number/)
  })

  test('doctor lists the backends, the default first', () => {
    using world = new World()
    const { backends } = world.json('doctor')
    assert.deepEqual(
      backends.map(({ name }) => name),
      ['erofs', 'overlay', 'copy', 'bind'],
    )
    assert.ok(backends[0]?.isDefault)
  })

  test('inspect shows containers and images, also by a short digest, and fails for what is not found', () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    writeOciLayout(layout, { app: buildImage({ tars, config: { Cmd: ['x'], Labels: { a: 'b' } } }) })
    assert.equal(world.loam('provision', '--id', 'c', `oci:${layout}:app`).status, 0)
    const inspect = (name: string) => JSON.parse(world.loam('inspect', name).stdout)
    assert.equal(inspect('c').kind, 'container')
    const found = inspect(`oci:${layout}:app`)
    assert.deepEqual([found.kind, found.config.config.Cmd], ['image', ['x']])
    assert.equal(inspect(found.image.digest.slice(7, 19)).image.digest, found.image.digest)
    assert.equal(world.loam('inspect', 'nothing/here').status, 1)
    world.loam('destroy', 'c')
  })

  test('images and ps show the platform and the backend', () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    writeOciLayout(layout, { app: image })
    assert.equal(world.loam('provision', '--id', 'c', `oci:${layout}:app`).status, 0)
    assert.match(world.loam('images').stdout, /linux\/amd64/)
    assert.match(world.loam('ps').stdout, /erofs/)
    world.loam('destroy', 'c')
  })

  test('a layout without its index fails', () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    writeOciLayout(layout, { app: image })
    unlinkSync(join(layout, 'index.json'))
    assert.equal(world.loam('pull', `oci:${layout}:app`).status, 1)
  })
})
