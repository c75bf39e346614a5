import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { buildImage, buildTar, writeOciLayout } from './image-builder.ts'
import type { Check, FrontDoorUnderTest } from './front-door.ts'
import { checkProcesses } from './front-door-processes.ts'
import { RegistryServer } from './registry-server.ts'

const image = buildImage({
  tars: [
    buildTar([{ name: 'etc/' }, { name: 'etc/motd', data: 'of the first layer' }]),
    buildTar([{ name: 'hello', data: 'of the second layer' }]),
  ],
})

/** Registers the tests that every front door has to pass: of the library, and of a daemon. `make` gives each of them a store of its own. */
export function frontDoorConformance(name: string, make: () => Promise<FrontDoorUnderTest>): void {
  const check = (what: string, act: (world: FrontDoorUnderTest) => Promise<void>): void => {
    void test(`${name}: ${what}`, async () => {
      await using world = await make()
      await act(world)
    })
  }
  checkImages(check)
  checkContainers(check)
  checkRuns(check)
  checkProcesses(check)
  checkFailures(check)
  checkSnapshots(check)
  checkStore(check)
}

function layoutIn(folder: string): string {
  writeOciLayout(join(folder, 'layout'), { x: image })
  return `oci:${join(folder, 'layout')}:x`
}

/** The output of a process that packs a directory. */
function tarOf(directory: string): Readable {
  return spawn('tar', ['-C', directory, '-c', '.'], { stdio: ['ignore', 'pipe', 'inherit'] }).stdout
}

function checkImages(check: Check): void {
  check('an image is pulled with events, listed, inspected, and removed', async ({ loam, folder }) => {
    const kinds = new Set<string>()
    const pulled = await loam.pull(layoutIn(folder), { onEvent: ({ kind }) => kinds.add(kind) })
    assert.equal(pulled.digest, image.manifest.digest)
    assert.ok(kinds.has('layer'), 'no event of a layer')
    const [listed, ...others] = await loam.images.list()
    assert.deepEqual(others, [])
    assert.deepEqual([listed?.digest, listed?.layers], [pulled.image.digest, pulled.image.layers])
    const inspected = await loam.images.inspect(pulled.digest)
    assert.deepEqual(inspected.image, listed)
    assert.deepEqual(inspected.decisions, [])
    const { entries } = await loam.images.contents(pulled.digest, { path: '/etc' })
    assert.deepEqual(
      entries.map((entry) => entry.name),
      ['motd'],
    )
    assert.equal(await loam.images.remove(pulled.name), image.manifest.digest)
    assert.deepEqual(await loam.images.list(), [])
    const pruned = await loam.images.prune({ dryRun: true })
    assert.equal(pruned.layers.length, 2)
    await loam.images.prune()
    assert.equal((await loam.images.prune()).layers.length, 0)
  })

  check(
    'an image is put under a name, and pushed to a registry with its digest unchanged',
    async ({ loam, folder }) => {
      await using registry = await RegistryServer.start()
      const put = await loam.images.put(layoutIn(folder), 'made.example/app:1')
      assert.deepEqual([put.name, put.digest], ['made.example/app:1', image.manifest.digest])
      await assert.rejects(
        loam.push('made.example/app:1', { to: `${registry.host}/app:1`, insecure: [registry.host] }),
        (error) => isLoamError(error),
      )
    },
  )

  check('an image is described as a disk, whose parts follow each other', async ({ loam, folder }) => {
    const disk = await loam.images.disks(layoutIn(folder))
    assert.equal(disk.digest, image.manifest.digest)
    const [first, ...others] = disk.parts.map(({ diffId }) => diffId)
    // In the order of the devices.
    assert.deepEqual([first, new Set(others)], [undefined, new Set(image.diffIds)])
    let end = 0
    for (const { position, sizeBytes } of disk.parts) {
      assert.equal(position, end)
      end += sizeBytes
    }
    assert.equal(disk.sizeBytes, end)
    const [tree, ...tars] = disk.parts.map(({ path }) => path)
    const options = ['ro', ...tars.map((path) => `device=${path}`)]
    assert.deepEqual(disk.mount, { type: 'erofs', source: tree, options })
  })

  check('an archive that comes as a stream is put under a name', async ({ loam, folder }) => {
    layoutIn(folder)
    const kinds = new Set<string>()
    const stream = tarOf(join(folder, 'layout'))
    const putting = loam.images.put(stream, 'made.example/app:1', { onEvent: ({ kind }) => kinds.add(kind) })
    // Node does so when the process ends: what nobody reads by then is lost.
    stream.resume()
    const put = await putting
    assert.deepEqual([put.name, put.digest], ['made.example/app:1', image.manifest.digest])
    assert.ok(kinds.has('layer'), 'no event of a layer')
    assert.deepEqual((await loam.images.list())[0]?.names, ['made.example/app:1'])
    const failing = async function* () {
      yield Buffer.from('the first part')
      throw new RangeError('the source fails')
    }
    await assert.rejects(loam.images.put(failing(), 'made.example/app:2'), RangeError)
    const text = Readable.from(['a text'])
    await assert.rejects(loam.images.put(text, 'made.example/app:2'), (error) => isLoamError(error))
    const stop = new AbortController()
    const endless = async function* () {
      yield Buffer.from('the first part')
      stop.abort()
      await new Promise(() => undefined)
    }
    await assert.rejects(loam.images.put(endless(), 'made.example/app:2', { signal: stop.signal }), (error) =>
      isLoamError(error, 'CANCELED'),
    )
    assert.equal((await loam.images.list()).length, 1)
    const left = readdirSync(join(folder, 'root', 'ingest'), { recursive: true, withFileTypes: true })
    assert.deepEqual(
      left.filter((each) => each.isFile()),
      [],
    )
  })

  check(
    'an image is given another name and loses it again, and stays without a name',
    async ({ loam, folder }) => {
      const name = layoutIn(folder)
      const { digest } = await loam.pull(name)
      const tagged = await loam.images.tag(name, 'made.example/app:2')
      assert.deepEqual([tagged.name, tagged.digest], ['made.example/app:2', digest])
      assert.deepEqual(
        (await loam.images.inspect(digest)).image.names,
        ['made.example/app:2', name].toSorted(),
      )
      for (const each of [name, tagged.name])
        assert.deepEqual(await loam.images.untag(each), { name: each, images: [digest] })
      assert.deepEqual((await loam.images.inspect(digest)).image.names, [])
      await assert.rejects(loam.images.untag(name), (error) => isLoamError(error, 'IMAGE_NOT_FOUND'))
    },
  )

  check('two pulls of an image at the same time both succeed', async ({ loam, folder }) => {
    const name = layoutIn(folder)
    const pulls = await Promise.all([1, 2, 3, 4].map(async () => loam.pull(name)))
    assert.deepEqual(new Set(pulls.map(({ digest }) => digest)), new Set([image.manifest.digest]))
  })
}

function checkContainers(check: Check): void {
  check('a root filesystem is created, listed, exported and destroyed', async ({ loam, folder }) => {
    const made = await loam.provision(layoutIn(folder), { id: 'web', backend: 'copy' })
    assert.equal(readFileSync(join(made.rootfsPath, 'hello'), 'utf8'), 'of the second layer')
    assert.equal(made.containerId, 'web')
    assert.equal(made.volumeTarget, undefined)
    // Nothing of the store's own records, some of which are not up to date by then.
    const documented = 'backend containerId ephemeralVolumes image isReadOnly rootfsPath uuid volumeTarget'
    assert.deepEqual(Object.keys({ ...made, volumeTarget: undefined }).toSorted(), documented.split(' '))
    const listed = await loam.containers.list()
    assert.deepEqual(
      listed.map(({ id, rootfses }) => [id, rootfses.length]),
      [['web', 1]],
    )
    assert.deepEqual(await loam.containers.find('web'), listed[0])
    assert.equal(await loam.containers.find('other'), undefined)
    writeFileSync(join(folder, 'new'), 'copied')
    await loam.containers.files.copyTo('web', join(folder, 'new'), '/etc')
    await loam.containers.files.copyFrom('web', '/etc/new', join(folder, 'old'))
    assert.equal(readFileSync(join(folder, 'old'), 'utf8'), 'copied')
    const output = join(folder, 'web.tar')
    await loam.export('web', { format: 'tar', output })
    assert.ok(readFileSync(output).includes('of the second layer'))
    assert.equal(await loam.destroy('web'), true)
    assert.equal(await loam.destroy('web'), false)
    assert.equal(existsSync(made.rootfsPath), false)
    assert.deepEqual((await loam.recover()).failed, [])
  })
}

function checkRuns(check: Check): void {
  check(
    'a process runs in a new root filesystem, its status is returned, and nothing is left unless it is kept',
    async ({ loam, shellImage }) => {
      if (shellImage === undefined) return
      const ids: string[] = []
      const shell = { command: ['sh', '-c', 'exit 7'], onStart: (id: string) => ids.push(id) }
      assert.equal(await loam.run(shellImage, { ...shell, id: 'one' }), 7)
      assert.equal(await loam.run(shellImage, shell), 7)
      assert.deepEqual(await loam.containers.list(), [])
      assert.equal(await loam.run(shellImage, { ...shell, id: 'two', keep: true }), 7)
      assert.deepEqual([ids[0], ids[2], ids.length], ['one', 'two', 3])
      assert.equal(
        await loam.run(shellImage, {
          command: ['sh', '-c', 'read x'],
          id: 'back',
          detach: true,
          keepsInput: true,
        }),
        0,
      )
      const { processes } = loam.containers
      assert.deepEqual(
        [(await processes.find('back')).status, await processes.stop('back', { timeoutMs: 0 })],
        ['running', true],
      )
      await assert.rejects(processes.kill('back'), (error) => isLoamError(error, 'CONTAINER_NOT_RUNNING'))
      await processes.start('back')
      await assert.rejects(processes.start('back'), (error) => isLoamError(error, 'CONTAINER_RUNNING'))
      await assert.rejects(processes.start('two'), (error) => isLoamError(error, 'CONTAINER_NOT_DETACHED'))
      await processes.kill('back', 'KILL')
      await loam.destroy('back')
      assert.deepEqual(
        (await processes.list()).map(({ id, status }) => [id, status]),
        [['two', 'none']],
      )
      for (const [options, code] of [
        [{ ...shell, id: 'two' }, 'CONTAINER_EXISTS'],
        [{ ...shell, id: '../two' }, 'ID_INVALID'],
        [{ command: ['missing'] }, 'COMMAND_NOT_FOUND'],
        [
          { ...shell, volumes: [{ image: 'oci:/missing:x', target: '/v', isReadOnly: true }] },
          'VOLUMES_FAILED',
        ],
      ] as const)
        await assert.rejects(loam.run(shellImage, options), (error) => isLoamError(error, code))
      assert.deepEqual(
        (await loam.containers.list()).map(({ id }) => id),
        ['two'],
      )
      await loam.destroy('two')
    },
  )

  check(
    'a run whose signal fires before its start fails with CANCELED, and nothing is left',
    async ({ loam, shellImage }) => {
      if (shellImage === undefined) return
      await using registry = await RegistryServer.start()
      registry.addImage('app', '1', image)
      const stop = new AbortController()
      registry.intercept = ({ url = '' }) => {
        if (url.includes('/blobs/')) stop.abort()
        return url.includes('/blobs/')
      }
      const running = loam.run(`${registry.host}/app:1`, { command: ['x'], signal: stop.signal })
      await assert.rejects(running, (error) => isLoamError(error, 'CANCELED'))
      assert.deepEqual([await loam.containers.list(), await loam.images.list()], [[], []])
    },
  )
}

function checkFailures(check: Check): void {
  check('failures have the codes, kinds and hints of the library', async ({ loam, folder }) => {
    const { digest } = await loam.pull(layoutIn(folder))
    await loam.provision(digest, { id: 'web', backend: 'copy' })
    const failures: readonly [Promise<unknown>, string, string][] = [
      [loam.images.inspect('missing'), 'IMAGE_NOT_FOUND', 'not_found'],
      [loam.images.inspect('a b'), 'REFERENCE_INVALID', 'invalid_argument'],
      [loam.images.remove(digest), 'IMAGE_IN_USE', 'failed_precondition'],
      [loam.provision(digest, { id: '../web' }), 'ID_INVALID', 'invalid_argument'],
      [loam.provision(digest, { backend: 'never' }), 'BACKEND_UNKNOWN', 'invalid_argument'],
      [loam.snapshots.open().stat('missing'), 'SNAPSHOT_NOT_FOUND', 'not_found'],
      [loam.pull('oci:/missing/layout:x'), 'SOURCE_NOT_FOUND', 'not_found'],
    ]
    for (const [failing, code, kind] of failures) {
      await assert.rejects(failing, (error) => {
        assert.ok(isLoamError(error), String(error))
        assert.deepEqual([error.code, error.kind], [code, kind])
        assert.ok(error.message.length > 0)
        return true
      })
    }
  })

  check(
    'an option that does not exist, or with an invalid value, is USAGE, and nothing is done',
    async ({ loam, folder }) => {
      const { digest } = await loam.pull(layoutIn(folder))
      const output = join(folder, 'output')
      // As programs without types call it.
      const { images, containers } = loam as unknown as {
        readonly [part in 'images' | 'containers']: Record<
          string,
          (...args: readonly unknown[]) => Promise<unknown>
        >
      }
      const failing = [
        containers['export']?.(digest, { format: 'zip', output }),
        containers['export']?.(digest, { format: 'tar', output, mode: -1 }),
        containers['export']?.(digest, { format: 'tar', output, latestMs: Number.NaN }),
        containers['provision']?.(digest, { id: 'web', isReadOnly: 'false' }),
        images['save']?.([digest], output, { format: 'tar' }),
        images['prune']?.({ all: 'no' }),
        images['prune']?.({ all: true, type: 'oci' }),
        images['prune']?.({ all: true, dryrun: true }),
        images['pull']?.(digest, { refrsh: true }),
        containers['provision']?.(digest, { id: 'web', readOnly: true }),
        containers['export']?.(digest, { format: 'tar', output, forse: true }),
        containers['destroy']?.('web', { timeout: 1 }),
      ]
      for (const each of await Promise.allSettled(failing.map(async (call) => call)))
        assert.ok(each.status === 'rejected' && isLoamError(each.reason, 'USAGE'), JSON.stringify(each))
      assert.deepEqual([existsSync(output), await loam.containers.list()], [false, []])
      assert.equal((await loam.images.list()).length, 1)
    },
  )

  check('a call whose signal fires fails with CANCELED, and nothing unfinished is left', async ({ loam }) => {
    await using registry = await RegistryServer.start()
    registry.addImage('app', '1', image)
    const reached = Promise.withResolvers<void>()
    registry.intercept = ({ url = '' }) => {
      if (!url.includes('/blobs/')) return false
      reached.resolve()
      return true
    }
    const stop = new AbortController()
    const pulling = loam.pull(`${registry.host}/app:1`, { insecure: [registry.host], signal: stop.signal })
    await Promise.race([reached.promise, pulling])
    stop.abort()
    await assert.rejects(pulling, (error) => isLoamError(error, 'CANCELED'))
    assert.deepEqual(await loam.images.list(), [])
    await assert.rejects(loam.pull('x', { signal: stop.signal }), (error) => isLoamError(error, 'CANCELED'))
  })
}

function checkSnapshots(check: Check): void {
  check('a snapshot is prepared, committed, written as a layer, and removed', async ({ loam, folder }) => {
    const snapshotter = loam.snapshots.open()
    const [mount] = await snapshotter.prepare('unpack', '', { 'loam.test/a': 'b' })
    writeFileSync(join(mount?.source ?? '', 'hello'), 'of a snapshot')
    await snapshotter.commit({ name: 'layer', key: 'unpack' })
    const info = await snapshotter.stat('layer')
    assert.deepEqual([info.kind, info.name, info.parent], ['committed', 'layer', ''])
    assert.deepEqual(await Array.fromAsync(snapshotter.list(['kind==committed'])), [info])
    assert.ok((await snapshotter.usage('layer')).inodes > 0)
    assert.equal(await loam.snapshots.has('layer'), true)
    const output = join(folder, 'layer.tar')
    await loam.snapshots.diff('layer', output)
    assert.ok(readFileSync(output).includes('of a snapshot'))
    const { digest } = await loam.snapshots.commit('layer', 'made.example/hello:1')
    assert.equal((await loam.images.inspect('made.example/hello:1')).image.digest, digest)
    await snapshotter.remove('layer')
    await snapshotter.cleanup()
    assert.equal(await loam.snapshots.has('layer'), false)
  })
}

function checkStore(check: Check): void {
  check(
    'the usage, a check that repairs, and the report about the machine are those of the store',
    async ({ loam, folder }) => {
      const { digest } = await loam.pull(layoutIn(folder))
      const usage = await loam.store.usage()
      assert.deepEqual(
        usage.images.map((each) => each.digest),
        [digest],
      )
      assert.deepEqual(await loam.store.partialLayers(), [])
      assert.equal(await loam.store.allowIndex(digest), false)
      const checked: string[] = []
      const report = await loam.store.fsck({ repair: true, onCheck: (what) => checked.push(what) })
      assert.deepEqual([report.problems, report.checked.layers], [[], 2])
      assert.ok(checked.length > 0)
      const { backends } = await loam.store.doctor()
      assert.ok(backends.some(({ name, probe }) => name === 'copy' && probe.isSupported))
      const config = join(folder, 'none')
      for (const client of ['containerd', 'docker'] as const) {
        const { findings } = await loam.store.doctorClient({ client, config })
        assert.ok(
          findings.some(({ status, message }) => status !== 'right' && message.includes('does not exist')),
        )
      }
    },
  )
}
