// A store that is verified and repaired.
import assert from 'node:assert/strict'
import {
  appendFileSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, describe, test } from 'node:test'
import { storePaths } from '../../src/content/store-paths.ts'
import { openLoam } from '../../src/index.ts'
import { FileLock } from '../../src/linux/index.ts'
import { parseContainerId } from '../../src/metadata/index.ts'
import { containerLock } from '../../src/provisioner/container-locks.ts'
import { buildImage, buildTar, RegistryServer } from '../../src/testing/index.ts'
import { someOf } from '../support/rounds.ts'
import { must, World } from '../support/world.ts'

describe('fsck and df', async () => {
  const server = await RegistryServer.start()
  after(async () => server[Symbol.asyncDispose]())
  const layer = (name: string) =>
    buildTar([{ name: `${name}/` }, { name: `${name}/file`, data: Buffer.alloc(50_000, name) }])
  const image = buildImage({ tars: [layer('base'), layer('top')] })
  const other = buildImage({ tars: [layer('base'), layer('other')] })

  const open = async () => {
    const world = new World()
    server.addImage('one', '1', image)
    server.addImage('two', '1', other)
    await using loam = await openStore(world)
    await loam.provision(`${server.host}/one:1`, { id: 'a' })
    await loam.provision(`${server.host}/two:1`, { id: 'b', backend: 'overlay' })
    return world
  }
  const ok = async (world: World, ...args: readonly string[]) => {
    const { status, stdout, stderr } = await world.loamAsync('--quiet', ...args)
    assert.equal(status, 0, stderr)
    return stdout.trim()
  }
  // Only the tested operations go through the command: each start of it takes as long as all of this.
  const openStore = async (world: World) =>
    openLoam({
      flags: { root: world.root, state: join(world.folder, 'state') },
      env: process.env,
      file: null,
    })
  const destroyAll = async (world: World) => {
    await using loam = await openStore(world)
    for (const id of ['a', 'b']) await loam.destroy(id)
  }
  const fsck = async (world: World, ...args: readonly string[]) => {
    const { status, stdout, stderr } = await world.loamAsync('--json', '--quiet', 'fsck', ...args)
    assert.notEqual(stdout, '', stderr)
    return { status, report: JSON.parse(stdout) }
  }
  const overwrite = (path: string, at: number) => {
    const fd = openSync(path, 'r+')
    writeSync(fd, Buffer.from('damage'), 0, 6, at)
    closeSync(fd)
  }

  test('a root filesystem that a process is creating is in order, and one that nobody continues is not', async () => {
    using world = await open()
    await using loam = await openStore(world)
    {
      using database = new DatabaseSync(join(world.root, 'metadata.db'))
      database.exec("UPDATE rootfses SET state = 'provisioning' WHERE container_id = 'a'")
    }
    const problems = async () =>
      (await loam.store.fsck({ repair: false })).problems.map(({ problem }) => problem)
    {
      const paths = storePaths(world.root)
      using _creating = await FileLock.acquire(containerLock(paths, parseContainerId('a')), { shared: true })
      assert.deepEqual(await problems(), [])
    }
    assert.deepEqual(await problems(), ['it is incomplete (provisioning)'])
  })

  test('fsck finds nothing in a sound store, and transfers nothing', async () => {
    using world = await open()
    const earlier = server.requests.length
    const { status, report } = await fsck(world, '--repair')
    assert.equal(status, 0)
    assert.deepEqual(report.problems, [])
    assert.deepEqual(report.checked, {
      layers: 3,
      indexes: 3,
      images: 2,
      partialLayers: 0,
      mergedImages: 1,
      rootfses: 2,
      tarBytes: report.checked.tarBytes,
    })
    assert.equal(server.requests.length, earlier)
    await destroyAll(world)
  })

  // The first seven have each kind of file.
  const damages: readonly (readonly [
    what: string,
    damage: (world: World) => void,
    problem: RegExp,
    fetched: number,
  ])[] = [
    [
      'a byte of a tar',
      (world) => overwrite(join(world.root, 'layers', image.diffIds[1] ?? '', 'layer.tar'), 2000),
      /digest/,
      1,
    ],
    [
      'a byte of an index',
      (world) => overwrite(join(world.root, 'layers', image.diffIds[0] ?? '', 'layer.erofs'), 1300),
      /metadata image|missing/,
      0,
    ],
    [
      'a merged image that is gone',
      (world) => rmSync(must('find', join(world.root, 'images'), '-name', 'merged.erofs').trim()),
      /its file is missing/,
      0,
    ],
    [
      'a folder of a layer that is gone',
      (world) => rmSync(join(world.root, 'layers', other.diffIds[1] ?? '', 'fs'), { recursive: true }),
      /its file is missing/,
      0,
    ],
    [
      'a config that has changed',
      (world) => appendFileSync(join(world.root, 'blobs/sha256', image.config.digest.slice(7)), ' '),
      /config/,
      1,
    ],
    [
      'a manifest that is gone',
      (world) => rmSync(join(world.root, 'blobs/sha256', image.manifest.digest.slice(7))),
      /manifest/,
      1,
    ],
    [
      'a folder that no row names',
      (world) => mkdirSync(join(world.root, 'layers', `sha256:${'0'.repeat(64)}`)),
      /no database row/,
      0,
    ],
    [
      'a tar that was cut off',
      (world) => truncateSync(join(world.root, 'layers', image.diffIds[0] ?? '', 'layer.tar'), 100),
      /bytes instead/,
      1,
    ],
    [
      'a tar that is gone',
      (world) => rmSync(join(world.root, 'layers', other.diffIds[1] ?? '', 'layer.tar')),
      /missing/,
      1,
    ],
    [
      'an index that is gone',
      (world) => rmSync(join(world.root, 'layers', image.diffIds[0] ?? '', 'layer.erofs')),
      /metadata image|missing/,
      0,
    ],
    [
      'a byte of a merged image',
      (world) => overwrite(must('find', join(world.root, 'images'), '-name', 'merged.erofs').trim(), 1700),
      /does not match its layers/,
      0,
    ],
  ]
  for (const [what, damage, problem, fetched] of someOf(damages, 7)) {
    test(`fsck finds ${what}, and repairs just that`, async () => {
      using world = await open()
      damage(world)
      const found = await fsck(world)
      assert.equal(found.status, 1)
      assert.equal(found.report.problems.length, 1)
      assert.match(found.report.problems[0].problem, problem)
      assert.equal(found.report.problems[0].advice, 'loam fsck --repair')
      const blobRequests = () =>
        server.requests.filter((request) => /\/(?:blobs|manifests)\/sha256/.test(JSON.stringify(request)))
          .length
      const earlier = blobRequests()
      const mended = await fsck(world, '--repair')
      assert.equal(mended.status, 0, JSON.stringify(mended.report))
      assert.equal(mended.report.problems.length, 1)
      assert.match(mended.report.problems[0].problem, problem)
      assert.equal(typeof mended.report.problems[0].repaired, 'string')
      assert.equal(blobRequests() - earlier, fetched)
      assert.deepEqual((await fsck(world)).report.problems, [])
      const path = await ok(world, 'provision', '--id', 'c', `${server.host}/one:1`)
      assert.equal(readFileSync(join(path, 'top/file')).length, 50_000)
      for (const id of ['a', 'b', 'c']) await ok(world, 'destroy', id)
      assert.deepEqual(world.leftovers(), [])
    })
  }

  test('what the disk cannot read is a problem of its own: all else is checked, and all of it is repaired', async () => {
    using world = await open()
    const [base = '', top = ''] = image.diffIds
    const index = join(world.root, 'layers', top, 'layer.erofs')
    rmSync(index)
    // A read of it fails with EIO, as one of a bad sector does.
    symlinkSync('/proc/self/mem', index)
    overwrite(join(world.root, 'layers', base, 'layer.tar'), 2000)
    const found = await fsck(world)
    const problems = found.report.problems.map(({ problem }: { problem: string }) => problem).toSorted()
    assert.equal(problems.length, 2, JSON.stringify(problems))
    assert.match(problems[0], /^its metadata image cannot be read \(EIO\)$/)
    assert.match(problems[1], /^its tar has the digest/)
    const mended = await fsck(world, '--repair')
    assert.equal(mended.status, 0, JSON.stringify(mended.report))
    assert.deepEqual((await fsck(world)).report.problems, [])
    await destroyAll(world)
    assert.deepEqual(world.leftovers(), [])
  })

  test('a directory in the place of a file, or a file in that of a directory, is damage, which --repair replaces', async () => {
    using world = await open()
    const [base = '', top = ''] = image.diffIds
    const merged = must('find', join(world.root, 'images'), '-name', 'merged.erofs').trim()
    const places = [
      join(world.root, 'blobs/sha256', image.manifest.digest.slice(7)),
      join(world.root, 'blobs/sha256', image.config.digest.slice(7)),
      join(world.root, 'layers', top, 'layer.tar'),
      join(world.root, 'layers', base, 'layer.erofs'),
      merged,
    ]
    for (const path of places) {
      rmSync(path)
      mkdirSync(path)
      writeFileSync(join(path, 'file'), 'x')
    }
    const folder = join(world.root, 'layers', other.diffIds[1] ?? '')
    rmSync(folder, { recursive: true })
    writeFileSync(folder, 'x')
    const found = await fsck(world)
    const problems = found.report.problems.map(({ problem }: { problem: string }) => problem)
    assert.equal(problems.length, places.length + 2, JSON.stringify(problems))
    for (const problem of problems) assert.doesNotMatch(problem, /EISDIR|bytes instead/)
    const mended = await fsck(world, '--repair')
    assert.equal(mended.status, 0, JSON.stringify(mended.report))
    assert.deepEqual((await fsck(world)).report.problems, [])
    await destroyAll(world)
    assert.deepEqual(world.leftovers(), [])
  })

  test('fsck reports a layer that cannot be fetched again, and nothing else is lost', async () => {
    using world = await open()
    overwrite(join(world.root, 'layers', image.diffIds[1] ?? '', 'layer.tar'), 2000)
    server.intercept = (_request, response) => {
      response.writeHead(503).end()
      return true
    }
    try {
      const { status, report } = await fsck(world, '--repair')
      assert.equal(status, 1)
      assert.equal(report.problems.length, 1)
      assert.equal(report.problems[0].repaired, undefined)
      assert.match(report.problems[0].advice, /repair failed/)
      assert.equal(existsSync(join(world.root, 'layers', image.diffIds[1] ?? '', 'layer.tar')), true)
    } finally {
      server.intercept = () => false
    }
    await destroyAll(world)
  })

  test('fsck reports a root filesystem that was unmounted', async () => {
    using world = await open()
    const [path = ''] = world.rootfsMounts()
    must('umount', path)
    const { status, report } = await fsck(world)
    assert.equal(status, 1)
    assert.match(report.problems[0].problem, /not mounted/)
    await destroyAll(world)
  })

  test('df shows the space that images share', async () => {
    using world = await open()
    const usage = JSON.parse(await ok(world, '--json', 'df'))
    assert.equal(usage.layers.length, 3)
    for (const each of usage.images) {
      assert.ok(each.sharedBytes > 50_000 && each.ownBytes > 50_000)
      assert.equal(each.bytes, each.ownBytes + each.sharedBytes)
      assert.equal(each.containers.length, 1)
    }
    assert.equal(usage.unusedBytes, 0)
    assert.ok(usage.totalBytes > 150_000)
    assert.match(
      await ok(world, 'df', '--layers'),
      /^IMAGE .*\n.*one:1.*\n[\s\S]*LAYER[\s\S]*CONTAINER[\s\S]*total /,
    )
    await destroyAll(world)
    for (const name of ['one', 'two']) await ok(world, 'rmi', `${server.host}/${name}:1`)
    assert.ok(JSON.parse(await ok(world, '--json', 'df')).unusedBytes > 150_000)
  })
})
