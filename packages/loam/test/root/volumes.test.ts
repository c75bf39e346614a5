// Volumes of containers that change the directories above the targets of their volumes.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, describe, test } from 'node:test'
import { isLoamError } from '../../src/errors/index.ts'
import { type Loam, openLoam } from '../../src/app/index.ts'
import type { VolumeOptions } from '../../src/containers/index.ts'
import { planRun } from '../../src/containers/run-plan.ts'
import { openDirectory, readMountTable, unmountAll } from '../../src/linux/index.ts'
import { buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { setUp } from '../../src/testing/set-up.ts'

interface ShowOptions extends Partial<VolumeOptions> {
  readonly isReadOnly?: boolean
}

/** A store, two images and directories of the host that nothing may be mounted on. */
class Place implements AsyncDisposable {
  readonly folder = realpathSync(mkdtempSync('/var/tmp/loam-volumes-'))
  readonly host = join(this.folder, 'host')
  readonly sandbox = join(this.folder, 'sandbox')
  readonly base: string
  readonly volume: string
  loam: Loam | undefined

  constructor() {
    const image = (name: string, entry: Parameters<typeof buildTar>[0][number]) => {
      const layout = join(this.folder, name)
      writeOciLayout(layout, { x: buildImage({ tars: [buildTar([entry])] }) })
      return `oci:${layout}:x`
    }
    this.base = image('base', { name: 'file', data: 'x' })
    this.volume = image('volume', { name: 'from-the-image', data: 'x', mode: 0o4755 })
  }

  /** The next test does not see the results of this one. */
  async clear(): Promise<void> {
    unmountAll(this.host)
    const loam = await this.open()
    for (const { id } of (await loam.containers.list()).toReversed()) await loam.destroy(id)
    for (const path of [this.host, this.sandbox]) rmSync(path, { recursive: true, force: true })
    mkdirSync(this.sandbox)
    mkdirSync(join(this.host, 'vol'), { recursive: true })
    writeFileSync(join(this.host, 'vol/host-file'), '')
  }

  async open(): Promise<Loam> {
    this.loam ??= await openLoam({
      flags: { root: join(this.folder, 'store'), state: join(this.folder, 'state') },
      file: null,
      env: {},
    })
    return this.loam
  }

  /** A container's root filesystem, with a directory that the container has created. */
  async provision(id = 'web'): Promise<string> {
    const loam = await this.open()
    const { rootfsPath } = await loam.provision(this.base, { id, backend: 'overlay' })
    mkdirSync(join(rootfsPath, 'data/vol'), { recursive: true })
    return rootfsPath
  }

  async show(target: string, options: ShowOptions = {}): Promise<void> {
    const { isReadOnly, id = 'web', ...others } = options
    const volume = { image: this.volume, target, isReadOnly }
    const loam = await this.open()
    await loam.containers.provisionVolumes([volume], { sandbox: this.sandbox, id, ...others })
  }

  /** Changes rows of the database directly. */
  async change(sql: string): Promise<void> {
    await this.loam?.[Symbol.asyncDispose]()
    this.loam = undefined
    using database = new DatabaseSync(join(this.folder, 'store/metadata.db'))
    database.exec(sql)
  }

  /** The state after a reboot: no mounts, and rows of another boot. */
  async reboot(): Promise<Loam> {
    await this.change(
      "UPDATE rootfses SET boot_id = 'another'; UPDATE artifacts SET boot_id = 'another', is_durable = 1",
    )
    unmountAll(this.folder)
    return this.open()
  }

  mounts(): string[] {
    return readMountTable()
      .map(({ target }) => target)
      .filter((target) => target.startsWith(`${this.folder}/`))
  }

  assertHostIsWhole(): void {
    assert.deepEqual(readdirSync(join(this.host, 'vol')), ['host-file'])
    assert.deepEqual(
      this.mounts().filter((target) => target.startsWith(this.host)),
      [],
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.loam?.[Symbol.asyncDispose]()
    unmountAll(this.folder)
    rmSync(this.folder, { recursive: true })
  }
}

/** The actions of a container that wants a volume elsewhere. */
function turnIntoSymlink(root: string, target: string): void {
  renameSync(join(root, 'data'), join(root, 'aside'))
  symlinkSync(target, join(root, 'data'))
}

describe('a volume', () => {
  let place: Place
  setUp(async (held) => {
    place = held.use(new Place())
    await place.clear()
  })
  afterEach(async () => place.clear())

  for (const backend of ['erofs', 'overlay', 'copy', 'bind']) {
    test(`a volume is not mounted through a symlink that appears above its place meanwhile, by ${backend}`, async () => {
      const root = await place.provision()
      mkdirSync(join(place.sandbox, 'data'))
      for (const { above, id, target } of [
        { above: root, id: 'web', target: '/data/vol' },
        { above: place.sandbox, id: 'job', target: 'data/vol' },
      ]) {
        const onEvent = ({ kind }: { kind: string }) => {
          if (kind === 'resolving') turnIntoSymlink(above, place.host)
        }
        await assert.rejects(
          place.show(target, { id, backend, onEvent }),
          (error) => isLoamError(error, 'VOLUMES_FAILED') && /now leads elsewhere/.test(error.message),
        )
      }
      place.assertHostIsWhole()
      assert.deepEqual(
        (await (await place.open()).containers.list()).map(({ id, rootfses }) => [id, rootfses.length]),
        [['web', 1]],
      )
    })

    test(`a volume is not shown again through a symlink above its place, also after a reboot, by ${backend}`, async () => {
      await redirectVolumes(backend)
      const loam = await place.open()
      const volumes = (await loam.containers.list()).map(({ rootfses }) => rootfses.at(-1))
      assert.deepEqual(
        volumes.map((volume) => volume?.isStanding),
        [false, false],
      )
      assert.equal(await countRedirected(loam), 2)
      assert.equal(await countRedirected(await place.reboot()), 2)
      place.assertHostIsWhole()
    })

    test(`a volume with a symlink above its place is removed with its container after a reboot, by ${backend}`, async () => {
      await redirectVolumes(backend)
      const loam = await place.reboot()
      assert.equal(await countRedirected(loam), 2)
      await loam.destroy('web')
      await loam.destroy('job')
      place.assertHostIsWhole()
      assert.deepEqual(place.mounts(), [])
    })
  }

  /** Shows a volume in a root filesystem and one in the sandbox, and lets symlinks to the host appear above both. */
  async function redirectVolumes(backend: string): Promise<void> {
    const root = await place.provision()
    await place.show('/data/vol', { backend })
    await place.show('data/vol', { backend, id: 'job' })
    for (const above of [root, place.sandbox]) turnIntoSymlink(above, place.host)
  }

  async function countRedirected(loam: Loam): Promise<number> {
    const { failed } = await loam.recover()
    return failed.filter(({ reason }) => reason.includes('now leads elsewhere')).length
  }

  test('a volume that its container has moved below names of any bytes and depth is removed by destroy', async () => {
    const loam = await place.open()
    // In a copy, a mount does not unmount the mounts below it.
    const { rootfsPath } = await loam.provision(place.base, { id: 'web', backend: 'copy' })
    mkdirSync(join(rootfsPath, 'data/vol'), { recursive: true })
    await place.show('/data/vol')
    const name = Buffer.concat([Buffer.alloc(200, 'n'), Buffer.from([0xff, 0x5c, 0x0a])])
    renameSync(join(rootfsPath, 'data'), Buffer.concat([Buffer.from(`${rootfsPath}/`), name]))
    for (let depth = 0; depth < 40; depth += 1) {
      mkdirSync(join(rootfsPath, 'next'))
      renameSync(
        Buffer.concat([Buffer.from(`${rootfsPath}/`), name]),
        Buffer.concat([Buffer.from(`${rootfsPath}/next/`), name]),
      )
      renameSync(join(rootfsPath, 'next'), Buffer.concat([Buffer.from(`${rootfsPath}/`), name]))
    }
    assert.ok(readMountTable().some(({ targetBytes }) => targetBytes.length > 8000))
    await loam.destroy('web')
    assert.deepEqual(place.mounts(), [])
  })

  test('a volume is removed by its own mount if several are at one path, and reported while another one hides it', async () => {
    const target = join(place.folder, 'host/vol')
    for (const id of ['one', 'two']) await place.show(target, { id, isReadOnly: true })
    const loam = await place.reboot()
    assert.deepEqual((await loam.recover()).failed, [])
    assert.deepEqual((await loam.recover()).restored, [])
    await assert.rejects(
      loam.destroy('one'),
      (error) => isLoamError(error, 'DESTROY_FAILED') && /mounted over it/.test(error.message),
    )
    assert.deepEqual(readdirSync(target), ['from-the-image'])
    await loam.destroy('two')
    assert.deepEqual(readdirSync(target), ['from-the-image'])
    await loam.destroy('one')
    place.assertHostIsWhole()
  })

  test('a volume with other mounts at its target is in place, and one that a mount above its target hides is not', async () => {
    const target = join(place.host, 'vol')
    await place.show(target, { isReadOnly: true })
    const loam = await place.open()
    const isStanding = async () => (await loam.containers.find('web'))?.rootfses[0]?.isStanding
    for (const _ of [1, 2]) execFileSync('mount', ['-t', 'tmpfs', 'none', target])
    assert.equal(await isStanding(), true)
    const { kept, failed } = await loam.recover()
    assert.deepEqual([kept.length, failed], [1, []])
    execFileSync('mount', ['-t', 'tmpfs', 'none', place.host])
    mkdirSync(target)
    assert.equal(await isStanding(), false)
  })

  test('a volume of an older Loam, whose row names no mount, is found by its content, also if a symlink has redirected it', async () => {
    const root = await place.provision()
    await place.show('/data/vol')
    await place.change('UPDATE rootfses SET volume_mount = NULL')
    const loam = await place.open()
    assert.deepEqual((await loam.recover()).kept.length, 2)
    turnIntoSymlink(root, place.host)
    const [, volume] = (await loam.containers.list())[0]?.rootfses ?? []
    // As a recovery of that Loam has done it.
    execFileSync('mount', ['--bind', volume?.rootfsPath ?? '', join(place.host, 'vol')])
    await loam.destroy('web')
    place.assertHostIsWhole()
    assert.deepEqual(place.mounts(), [])
  })

  test('a volume with a target of this machine that is in a root filesystem is mounted where its container would see it', async () => {
    const root = await place.provision()
    rmSync(join(root, 'data'), { recursive: true })
    symlinkSync(place.host, join(root, 'data'))
    const link = join(place.folder, 'link')
    symlinkSync(`${root}/data`, link)
    for (const target of [`${root}/data/vol`, `${link}/vol`])
      await assert.rejects(
        place.show(target, { id: 'job' }),
        (error) => isLoamError(error, 'VOLUMES_FAILED'),
        target,
      )
    place.assertHostIsWhole()
    await place.show(`${root}/own/vol`, { id: 'job' })
    assert.deepEqual(readdirSync(join(root, 'own/vol')), ['from-the-image'])
  })

  test('a volume is not mounted in a foreign mount of a root filesystem: the host may see it elsewhere', async () => {
    const root = await place.provision()
    mkdirSync(join(root, 'shared'))
    execFileSync('mount', ['--bind', '--make-shared', place.host, place.host])
    execFileSync('mount', ['--bind', place.host, join(root, 'shared')])
    await assert.rejects(
      place.show('/shared/vol'),
      (error) => isLoamError(error, 'VOLUMES_FAILED') && /was mounted there later/.test(error.message),
    )
    assert.deepEqual(readdirSync(join(place.host, 'vol')), ['host-file'])
    await assert.rejects(place.show('/'), (error) => isLoamError(error, 'VOLUMES_FAILED'))
    // In a volume of its own it may be.
    await place.show('/data/vol')
    await place.show('/data/vol/inner')
    assert.deepEqual(readdirSync(join(root, 'data/vol/inner')), ['from-the-image'])
  })

  test('a volume has no setuid programs and devices on this machine, nor have shared mounts; they work in root filesystems and the volumes in them', async () => {
    const root = await place.provision()
    await place.show('/data/vol', { backend: 'erofs', isReadOnly: true })
    await place.show(join(place.host, 'vol'), { id: 'job', backend: 'erofs', isReadOnly: true })
    await (await place.open()).provision(place.base, { id: 'read', backend: 'erofs', isReadOnly: true })
    const isTrusted = (target: string) => {
      const options = readMountTable().find((mount) => mount.target === target)?.options
      return [options?.includes('nosuid'), options?.includes('nodev')].join()
    }
    const shared = readdirSync(join(place.folder, 'state/images')).map((name) =>
      join(place.folder, 'state/images', name),
    )
    assert.equal(shared.length, 2)
    for (const target of [...shared, join(place.host, 'vol')])
      assert.equal(isTrusted(target), 'true,true', target)
    const roots = (await (await place.open()).containers.list()).flatMap(({ rootfses }) =>
      rootfses.map(({ rootfsPath }) => rootfsPath),
    )
    for (const target of [...roots, join(root, 'data/vol')])
      assert.equal(isTrusted(target), 'false,false', target)
  })

  test('a volume is unmounted where it is mounted, whatever its path leads to by then', async () => {
    const root = join(place.folder, 'root')
    mkdirSync(join(root, 'a/b'), { recursive: true })
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', join(root, 'a/b')])
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', join(place.host, 'vol')])
    const before = readMountTable()
    renameSync(join(root, 'a'), join(root, 'c'))
    symlinkSync(place.host, join(root, 'a'))
    symlinkSync('vol', join(place.host, 'b'))
    assert.ok(
      before.length > 0 && existsSync(join(root, 'a/b')) && lstatSync(join(root, 'a')).isSymbolicLink(),
    )
    assert.equal(unmountAll(root), true)
    assert.deepEqual(place.mounts(), [join(place.host, 'vol')])
    assert.equal(openDirectory(place.host) > 0, true)
  })

  test('a volume, or any other mount that shows the writable files of a container, is mounted in no other container', async () => {
    await place.provision()
    await place.show(join(place.host, 'vol'), { id: 'job', backend: 'overlay' })
    const store = join(place.folder, 'store')
    const paths = { containers: join(store, 'containers'), snapshots: join(store, 'snapshots') }
    const roots = (await (await place.open()).containers.list()).flatMap(({ rootfses }) => rootfses)
    const copied = join(place.folder, 'bound')
    mkdirSync(copied, { recursive: true })
    execFileSync('mount', ['--bind', roots[0]?.scratchPath ?? '', copied])
    try {
      for (const source of [join(place.host, 'vol'), join(place.host, 'vol/x'), join(copied, 'upper')])
        assert.throws(
          () => planRun({ mounts: [`type=bind,source=${source},target=/x`] }, { env: {}, cwd: '', paths }),
          (error) => isLoamError(error, 'USAGE') && error.message.includes('can redirect the path'),
          source,
        )
      planRun({ mounts: [`type=bind,source=${place.sandbox},target=/x`] }, { env: {}, cwd: '', paths })
    } finally {
      unmountAll(copied)
    }
  })
})
