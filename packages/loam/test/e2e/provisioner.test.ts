// The life of containers: several images, nested ones, and recovery from kills and damage.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openLoam } from '../../src/index.ts'
import { buildImage, buildTar, RegistryServer } from '../../src/testing/index.ts'
import { rounds } from '../support/rounds.ts'
import { libraryAddress, programPath } from '../support/test-tools.ts'
import { must, World } from '../support/world.ts'

const ROUNDS = rounds(15, 3, 'LOAM_RECOVERY_ROUNDS')

const imageOf = (text: string) =>
  buildImage({ tars: ['1', '2'].map((layer) => buildTar([{ name: `${text}-${layer}`, data: text }])) })

async function open(world: World) {
  return openLoam({
    file: null,
    flags: { root: world.root, state: join(world.folder, 'state') },
    env: process.env,
  })
}

describe('containers', () => {
  test('a container has several images, and the same one twice, and all of them are removed with it', async () => {
    using world = new World()
    await using registry = await RegistryServer.start()
    for (const name of ['one', 'two']) registry.addImage(name, '1', imageOf(name))
    await using loam = await open(world)
    const images = ['one', 'two', 'one'].map((name) => `${registry.host}/${name}:1`)
    const made = await Promise.all(images.map(async (image) => loam.provision(image, { id: 'c' })))
    assert.equal(new Set(made.map(({ rootfsPath }) => rootfsPath)).size, 3)
    assert.equal((await loam.containers.list())[0]?.rootfses.length, 3)
    // The layers of each of them are in use.
    assert.deepEqual((await loam.images.prune({ all: true, local: true })).images, [])
    for (const { rootfsPath } of made) assert.equal(readdirSync(rootfsPath).length, 2)
    assert.equal(await loam.destroy('c'), true)
    assert.deepEqual([world.mounts(), await loam.containers.list()], [[], []])
  })

  test('destroying is repeated and shared: one operation, one result, and false for an unknown container', async () => {
    using world = new World()
    await using registry = await RegistryServer.start()
    registry.addImage('one', '1', imageOf('one'))
    await using loam = await open(world)
    await loam.provision(`${registry.host}/one:1`, { id: 'c' })
    assert.deepEqual(await Promise.all([1, 2, 3].map(async () => loam.destroy('c'))), [true, true, true])
    assert.equal(await loam.destroy('c'), false)
    assert.equal(await loam.destroy('never'), false)
  })

  test('destroying waits for a provision in progress, and a container may be provisioned again at once', async () => {
    using world = new World()
    await using registry = await RegistryServer.start()
    registry.addImage('one', '1', imageOf('one'))
    await using loam = await open(world)
    const image = `${registry.host}/one:1`
    await loam.pull(image)
    for (let round = 0; round < rounds(30, 10); round += 1) {
      const provisioning = loam.provision(image, { id: 'c', backend: round % 2 === 0 ? 'copy' : 'overlay' })
      const destroying = loam.destroy('c')
      const [made, wasThere] = await Promise.all([provisioning, destroying])
      // Whichever was first: afterwards the container is in its last state, and complete.
      const listed = (await loam.containers.list()).flatMap(({ rootfses }) => rootfses)
      if (listed.length > 0) assert.equal(readdirSync(made.rootfsPath).length, 2)
      else assert.equal(wasThere && !existsSync(made.rootfsPath), true)
      await loam.destroy('c')
    }
    assert.deepEqual([world.mounts(), await loam.containers.list()], [[], []])
  })

  test('a canceled provision stops its pull and leaves nothing', async () => {
    using world = new World()
    await using registry = await RegistryServer.start()
    const image = imageOf('one')
    registry.addImage('one', '1', image)
    registry.intercept = (request) => request.url?.includes('/blobs/') ?? false
    await using loam = await open(world)
    const canceled = new AbortController()
    const provisioning = loam.provision(`${registry.host}/one:1`, { id: 'c', signal: canceled.signal })
    setTimeout(() => {
      canceled.abort()
    }, 200)
    await assert.rejects(
      provisioning,
      (error) => error instanceof Error && 'code' in error && error.code === 'CANCELED',
    )
    assert.deepEqual([await loam.containers.list(), world.mounts()], [[], []])
    registry.intercept = () => false
    await loam.provision(`${registry.host}/one:1`, { id: 'c' })
    assert.equal(await loam.destroy('c'), true)
  })

  test('root filesystems stay with the backend that made them when the default changes', async () => {
    using world = new World()
    await using registry = await RegistryServer.start()
    registry.addImage('one', '1', imageOf('one'))
    const image = `${registry.host}/one:1`
    for (const backend of ['copy', 'overlay', 'erofs']) {
      const made = await world.loamAsync('provision', '--id', backend, image, '--backend', backend)
      assert.equal(made.status, 0, made.stderr)
    }
    const report = JSON.parse(
      (await world.loamAsync('--json', '--image_provisioner_backend=bind', 'recover')).stdout,
    )
    assert.deepEqual([report.kept.length, report.failed], [3, []])
    for (const id of ['copy', 'overlay', 'erofs'])
      assert.equal((await world.loamAsync('--image_provisioner_backend=bind', 'destroy', id)).status, 0)
    assert.deepEqual(world.mounts(), [])
  })

  test('recovery keeps known containers and destroys others with what is nested in them, children first', async () => {
    using world = new World()
    await using registry = await RegistryServer.start()
    registry.addImage('one', '1', imageOf('one'))
    await using loam = await open(world)
    // A parent without an image of its own is a known container, too.
    for (const id of ['a', 'a/b', 'a/b/c', 'd/e', 'f/g', 'h'])
      await loam.provision(`${registry.host}/one:1`, { id })
    const report = await loam.recover({ known: ['a/b', 'f/g'] })
    assert.deepEqual(
      (await loam.containers.list()).map(({ id }) => id),
      ['a', 'a/b', 'f', 'f/g'],
    )
    assert.deepEqual([report.failed, report.undone.toSorted()], [[], ['a/b/c', 'd', 'h']])
    await loam.recover({ known: [] })
    assert.deepEqual(
      [await loam.containers.list(), world.mounts(), readdirSync(join(world.root, 'containers'))],
      [[], [], []],
    )
  })

  /** Creates three containers, damages the rows of two, and puts foreign files into the folder of containers. */
  async function damage(world: World, registry: RegistryServer): Promise<string> {
    registry.addImage('one', '1', imageOf('one'))
    const image = `${registry.host}/one:1`
    for (const id of ['good', 'damaged', 'strange'])
      assert.equal((await world.loamAsync('provision', '--id', id, image)).status, 0)
    const containers = join(world.root, 'containers')
    writeFileSync(join(containers, 'a file'), 'x')
    mkdirSync(join(containers, 'not an id/rootfses'), { recursive: true })
    must(
      'sqlite3',
      join(world.root, 'metadata.db'),
      "UPDATE rootfses SET image_digest = 'rubbish' WHERE container_id = 'damaged'; UPDATE rootfses SET backend = 'aufs' WHERE container_id = 'strange'; UPDATE rootfses SET state = 'destroying' WHERE container_id = 'strange'",
    )
    return containers
  }

  test('recovery quarantines unreadable entries, reports an unknown backend, and keeps the other containers', async () => {
    using world = new World()
    await using registry = await RegistryServer.start()
    await damage(world, registry)
    const first = await world.loamAsync('--json', 'recover')
    const report = JSON.parse(first.stdout)
    assert.deepEqual(
      report.quarantined.map(({ what }: { what: string }) => what.split('/').at(-1)).toSorted(),
      ['a file', 'damaged', 'not an id'],
    )
    assert.match(report.failed[0].reason, /backend aufs is unknown/)
    assert.equal(report.failed.length, 1)
    assert.equal(readdirSync(join(world.root, 'quarantine')).length, 2)
    assert.equal(report.kept.length, 1)
    assert.equal((await world.loamAsync('ps')).status, 0)
  })

  test('containers that recovery has reported can be destroyed, and the next recovery has nothing to report', async () => {
    using world = new World()
    await using registry = await RegistryServer.start()
    const containers = await damage(world, registry)
    await world.loamAsync('recover')
    assert.equal((await world.loamAsync('destroy', 'damaged')).status, 0)
    must(
      'sqlite3',
      join(world.root, 'metadata.db'),
      "UPDATE rootfses SET backend = 'erofs' WHERE container_id = 'strange'",
    )
    for (const id of ['strange', 'good']) assert.equal((await world.loamAsync('destroy', id)).status, 0, id)
    assert.deepEqual([world.rootfsMounts(), readdirSync(containers)], [[], []])
    const again = JSON.parse((await world.loamAsync('--json', 'recover')).stdout)
    assert.deepEqual([again.quarantined, again.failed], [[], []])
    assert.deepEqual(world.mounts(), [])
  })
})

/** Work on nested containers, again and again, until it is killed. */
const WORKER = `
import { openLoam } from ${JSON.stringify(libraryAddress())}
const [root, state, host, seed] = process.argv.slice(2)
let random = Number(seed)
const next = (below) => (random = (random * 1103515245 + 12345) & 0x7fffffff) % below
const loam = await openLoam({ file: null, flags: { root, state }, env: process.env })
const ids = ['a', 'a/b', 'a/b/c', 'd', 'd/e']
const backends = ['erofs', 'overlay', 'copy']
process.stdout.write('ready\\n')
const one = async () => {
  for (;;) {
    const id = ids[next(ids.length)]
    try {
      const kind = next(10)
      if (kind < 6) await loam.provision(host + '/' + ['one', 'two'][next(2)] + ':1', { id, backend: backends[next(3)] })
      else if (kind < 9) await loam.destroy(id)
      else await loam.images.prune({ all: true, local: true })
    } catch (error) {
      if (!/removed meanwhile|not in the store/.test(String(error))) { process.stderr.write(String(error.stack) + '\\n'); process.exit(3) }
    }
  }
}
await Promise.all([one(), one(), one()])
`

describe('file systems', () => {
  test('a file system whose listings have no types (d_type) carries no overlay, doctor says why, and copy is used', async () => {
    using world = new World()
    await using registry = await RegistryServer.start()
    registry.addImage('one', '1', imageOf('one'))
    const disk = join(world.folder, 'disk.img')
    mkdirSync(world.root)
    must(
      'sh',
      '-c',
      `truncate -s 64M ${disk} && mkfs.ext4 -q -O ^filetype ${disk} && mount -o loop ${disk} ${world.root}`,
    )
    const doctor = JSON.parse((await world.loamAsync('--json', 'doctor')).stdout)
    for (const name of ['erofs', 'overlay']) {
      const { probe } = doctor.backends.find((backend: { name: string }) => backend.name === name)
      assert.match(probe.reason, /missing d_type support/, name)
    }
    const made = await world.loamAsync('--json', 'provision', '--id', 'c', `${registry.host}/one:1`)
    assert.equal(JSON.parse(made.stdout).backend, 'copy', made.stderr)
    const asked = await world.loamAsync(
      '--json',
      '--image_provisioner_backend=overlay',
      'provision',
      `${registry.host}/one:1`,
    )
    assert.equal(JSON.parse(asked.stderr).error.code, 'BACKEND_UNSUPPORTED')
    assert.equal((await world.loamAsync('destroy', 'c')).status, 0)
  })
})

/** A folder of an unsuitable file system, with doctor's message about it. */
const UNSUITABLE: Readonly<
  Record<string, { make: string; words: RegExp; status: number; backends?: RegExp }>
> = {
  'no xattrs': {
    make: 'mount -t ramfs none place',
    words: /does not support extended attributes/,
    status: 1,
  },
  'memory only': {
    make: 'mount -t tmpfs none place',
    words: /lost at a reboot/,
    status: 0,
  },
  noexec: { make: 'mount -t tmpfs -o noexec,nodev none place', words: /noexec.*nodev/s, status: 0 },
  'overlay on overlay': {
    make: 'mount -t tmpfs none tmp; mkdir tmp/l tmp/u tmp/w; mount -t overlay none -o lowerdir=tmp/l,upperdir=tmp/u,workdir=tmp/w place',
    words: /overlayfs cannot use it/,
    status: 0,
  },
  'somebody else’s': { make: 'touch place/thesis', words: /not empty/, status: 1 },
}

describe('doctor', () => {
  test('doctor reports an unsuitable directory before anything is written there, and leaves nothing', () => {
    for (const [name, { make, words, status }] of Object.entries(UNSUITABLE)) {
      using world = new World()
      must('sh', '-ec', `cd ${world.folder}; mkdir place tmp; ${make}`)
      const place = join(world.folder, 'place')
      const before = must('find', world.folder)
      for (const root of [place, join(place, 'a', 'store')]) {
        if (name.startsWith('somebody') && root !== place) continue
        const run = world.loam('doctor', `--root=${root}`)
        assert.equal(run.status, status, `${name}: ${run.stdout}${run.stderr}`)
        assert.match(run.stdout, words, name)
        assert.equal(must('find', world.folder), before, name)
      }
    }
  })

  test('doctor tells what this process lacks from what the file system lacks, and why there is no runtime', () => {
    using world = new World()
    const doctor = [process.execPath, ...world.args('doctor')]
    const drop = ['--bounding-set=-sys_admin', '--inh-caps=-sys_admin']
    const { stdout } = spawnSync('setpriv', [...drop, ...doctor], { encoding: 'utf8' })
    assert.match(stdout, /unsuitable: this process lacks CAP_SYS_ADMIN: .*EPERM/)
    assert.doesNotMatch(stdout, /does not support extended attributes/)
    const withoutPath = spawnSync(process.execPath, world.args('doctor'), {
      encoding: 'utf8',
      env: { PATH: '/nonexistent' },
    })
    assert.match(withoutPath.stdout, /^runtime +find the OCI runtime: there is no runc\. Install it /m)
  })

  test('doctor says that overlayfs does not work on an overlay', () => {
    using world = new World()
    must('sh', '-ec', `cd ${world.folder}; mkdir place tmp; ${UNSUITABLE['overlay on overlay']?.make}`)
    const { backends } = JSON.parse(
      world.loam('--json', 'doctor', `--root=${world.folder}/place/store`).stdout,
    )
    const probes = Object.fromEntries(
      backends.map(({ name, probe }: { name: string; probe: { isSupported: boolean } }) => [
        name,
        probe.isSupported,
      ]),
    )
    assert.deepEqual(probes, { erofs: false, overlay: false, copy: true, bind: true })
  })

  test('doctor reports the machine and what is wrong with the location, where this user may not write, read or look', () => {
    using world = new World()
    must('sh', '-ec', `cd ${world.folder}; chmod 755 .; mkdir ro; mount -t tmpfs -o ro none ro`)
    const store = world.path('theirs', 'store')
    world.loam('images', `--root=${store}`)
    chmodSync(world.path('theirs'), 0o755)
    const asUser = (root: string) =>
      spawnSync(process.execPath, [programPath('loam'), 'doctor', '--root', root, '--state', '/tmp/none'], {
        uid: 65_534,
        gid: 65_534,
        encoding: 'utf8',
        env: { PATH: process.env['PATH'], HOME: '/nonexistent', LOAM_USER_NAMESPACE: 'never' },
      })
    for (const [examined, words] of [
      [
        world.loam('doctor', `--root=${world.path('ro', 'store')}`),
        /unsuitable: .*the file system is read-only/,
      ],
      [asUser(store), /unsuitable: .*not permitted/],
      [asUser(join(store, 'layers', 'below')), /unsuitable: .*not permitted/],
    ] as const) {
      assert.equal(examined.status, 1)
      assert.match(examined.stdout, words, examined.stderr)
      assert.match(examined.stdout, /note: the backends were tried in /, examined.stderr)
      assert.match(examined.stdout, /^kernel .*^copy +works.*^runtime /ms, examined.stderr)
    }
  })
})

describe('recovery', () => {
  test(`after kill -9 at ${ROUNDS} random moments of provision, destroy and prune with nested containers recovery restores the store`, async () => {
    using world = new World()
    await using registry = await RegistryServer.start()
    for (const name of ['one', 'two']) registry.addImage(name, '1', imageOf(name))
    const worker = join(world.folder, 'worker.mts')
    writeFileSync(worker, WORKER)
    let kills = 0
    for (let round = 0; round < ROUNDS; round += 1) {
      // Containers that have to survive, with data written to them.
      let mark: string | undefined
      {
        await using loam = await open(world)
        const { rootfsPath } = await loam.provision(`${registry.host}/one:1`, { id: 'known/inner' })
        mark = join(rootfsPath, 'written')
        writeFileSync(mark, `round ${round}`)
      }
      const child = spawn(
        process.execPath,
        [worker, world.root, join(world.folder, 'state'), registry.host, String(round + 1)],
        { stdio: ['ignore', 'pipe', 'pipe'] },
      )
      let errors = ''
      child.stderr.on('data', (chunk: Buffer) => {
        errors += chunk.toString()
      })
      const ended = new Promise<void>((resolve) => {
        child.once('close', () => {
          resolve()
        })
      })
      await Promise.race([new Promise((resolve) => child.stdout.once('data', resolve)), ended])
      await Promise.race([sleep(Math.random() * 150), ended])
      if (child.exitCode === null) {
        child.kill('SIGKILL')
        kills += 1
      }
      await ended
      assert.equal(errors, '')
      await using loam = await open(world)
      const report = await loam.recover({ known: ['known/inner'] })
      assert.deepEqual([report.failed, report.quarantined], [[], []], `round ${round}`)
      assert.deepEqual(
        (await loam.containers.list()).map(({ id }) => id),
        ['known', 'known/inner'],
      )
      assert.equal(readFileSync(mark, 'utf8'), `round ${round}`)
      assert.equal(world.rootfsMounts().length, 1, `round ${round}: ${world.rootfsMounts().join()}`)
      assert.deepEqual(readdirSync(join(world.root, 'containers')), ['known'])
      for (const name of ['one', 'two']) {
        const { rootfsPath } = await loam.provision(`${registry.host}/${name}:1`, { id: `check-${name}` })
        assert.deepEqual(readdirSync(rootfsPath).toSorted(), [`${name}-1`, `${name}-2`])
      }
      await loam.recover({ known: [] })
      assert.deepEqual([world.mounts(), await loam.containers.list()], [[], []], `round ${round}`)
      await loam[Symbol.asyncDispose]()
      assert.deepEqual(world.leftovers(), [], `round ${round}`)
    }
    assert.ok(kills > ROUNDS / 2, `only ${kills} were killed`)
  })
})
