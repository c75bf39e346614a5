// User namespaces: snapshots and root filesystems whose files have the IDs of a mapping on this machine.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { DatabaseSync } from 'node:sqlite'
import { basename, join } from 'node:path'
import { describe, test } from 'node:test'
import type { Wiring } from '../../src/app/wiring.ts'
import { chainIds, type DiffId, parseDiffId } from '../../src/image/index.ts'
import { openLoam } from '../../src/index.ts'
import { findMountsBelow, libc, readXattrs } from '../../src/linux/index.ts'
import type { SnapshotMount, Snapshotter } from '../../src/snapshotter/index.ts'
import { buildImage, buildTar, mountSnapshot, writeOciLayout } from '../../src/testing/index.ts'
import { openWiring } from '../support/open-wiring.ts'

const UIDS = 'containerd.io/snapshot/uidmapping'
const GIDS = 'containerd.io/snapshot/gidmapping'
const MAPPED = { [UIDS]: '0:100000:1000,1000:300000:5000', [GIDS]: '0:200000:65536' }
const REF = 'containerd.io/snapshot.ref'

interface Fixture extends AsyncDisposable {
  readonly folder: string
  readonly layers: readonly DiffId[]
  /** Name of the image. */
  readonly image: string
  readonly flags: { readonly root: string; readonly state: string }
  /** Opens the store again, as a new process does. */
  readonly open: () => Promise<{ readonly parts: Wiring; readonly snapshotter: Snapshotter }>
}

/** A store with an image of two layers, whose snapshotter takes layers from it. */
async function createStore(): Promise<Fixture> {
  await using held = new AsyncDisposableStack()
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-ids-')))
  held.defer(() => {
    for (const { target } of findMountsBelow(folder)) execFileSync('umount', ['-l', target])
    rmSync(folder, { recursive: true })
  })
  const tars = [
    buildTar([
      { name: './', mode: 0o755, uid: 0, gid: 0 },
      { name: 'root', data: 'of root' },
      { name: 'user', data: 'of a user', uid: 1000, gid: 1000 },
      { name: 'edge', data: 'the last ID of a range', uid: 999, gid: 65_535 },
      { name: 'outside', data: 'of nobody', uid: 70_000, gid: 70_000 },
    ]),
    buildTar([{ name: 'second', data: 'above', uid: 5999, gid: 7 }]),
  ]
  const image = buildImage({ tars })
  const layers = tars.map((tar) => parseDiffId(`sha256:${createHash('sha256').update(tar).digest('hex')}`))
  writeOciLayout(join(folder, 'layout'), { image })
  const name = `oci:${join(folder, 'layout')}:image`
  const flags = { root: join(folder, 'store'), state: join(folder, 'state') }
  {
    await using loam = await openLoam({ flags, file: null })
    await loam.images.pull(name)
  }
  const open = async () => {
    const parts = held2.use(await openWiring(folder))
    const snapshotter = parts.makeSnapshotter({
      admit: async () => {},
      fetch: async (_labels, below = []) => {
        const stack = layers.slice(0, below.length + 1)
        const [diffId, chainId] = [stack.at(-1), chainIds(stack).at(-1)]
        assert.ok(diffId !== undefined && chainId !== undefined)
        const lease = await parts.layers.leaseStored([diffId])
        return { diffId, chainId, usage: { sizeBytes: 0, inodes: 0 }, lease }
      },
    })
    return { parts, snapshotter }
  }
  const held2 = held.move()
  return { folder, layers, image: name, flags, open, [Symbol.asyncDispose]: async () => held2.disposeAsync() }
}

/** Makes committed snapshots of the layers, as a client does that names them, and returns the name of the topmost one. */
async function claimLayers(snapshotter: Snapshotter, layers: readonly DiffId[]): Promise<string> {
  let parent = ''
  for (const name of chainIds(layers)) {
    await assert.rejects(snapshotter.prepare(`extract ${name}`, parent, { [REF]: name }), {
      code: 'SNAPSHOT_EXISTS',
    })
    parent = name
  }
  return parent
}

/** The owners of the files of a snapshot as a client mounts it, which has no way to map IDs. */
function ownersOf(folder: string, mounts: readonly SnapshotMount[]): Record<string, string> {
  return within(folder, mounts, owners)
}

function owners(root: string): Record<string, string> {
  return Object.fromEntries(
    ['.', ...readdirSync(root)].toSorted().map((name) => {
      const { uid, gid } = lstatSync(join(root, name))
      return [name, `${uid}:${gid}`]
    }),
  )
}

function within<T>(folder: string, mounts: readonly SnapshotMount[], act: (root: string) => T): T {
  const target = join(folder, 'mounted')
  mkdirSync(target, { recursive: true })
  using _mounted = mountSnapshot(mounts, target)
  return act(target)
}

/** The owners of the image's files, mapped. */
const OWNERS = {
  '.': '100000:200000',
  edge: '100999:265535',
  outside: '65534:65534',
  root: '100000:200000',
  second: '304999:200007',
  user: '300000:201000',
}

describe('snapshots for user namespaces', () => {
  test('a snapshot on layers with a mapping shows the IDs of the machine, and all of that mapping share one mount', async () => {
    await using store = await createStore()
    const { snapshotter } = await store.open()
    const top = await claimLayers(snapshotter, store.layers)
    const mounts = await snapshotter.prepare('pod', top, MAPPED)
    assert.deepEqual(ownersOf(store.folder, mounts), OWNERS)
    const options = mounts[0]?.options ?? []
    assert.ok(!options.some((option) => option.startsWith('uidmap=') || option.startsWith('gidmap=')))
    const view = await snapshotter.view('view', top, MAPPED)
    assert.deepEqual(ownersOf(store.folder, view), OWNERS)
    const mapped = join(store.folder, 'state', 'mapped')
    assert.equal(readdirSync(mapped).length, 1)
    // Files that a container writes have the IDs of the machine already.
    within(store.folder, mounts, (root) => {
      writeFileSync(join(root, 'own'), '')
      chownSync(join(root, 'own'), 100_005, 200_006)
      chownSync(join(root, 'user'), 300_001, 201_001)
    })
    assert.deepEqual(ownersOf(store.folder, await snapshotter.mounts('pod')), {
      ...OWNERS,
      own: '100005:200006',
      user: '300001:201001',
    })
    // Others see the image as it is.
    const plain = ownersOf(store.folder, await snapshotter.prepare('plain', top))
    assert.deepEqual([plain['.'], plain['user'], plain['outside']], ['0:0', '1000:1000', '70000:70000'])
    const other = { [UIDS]: '0:500000:65536', [GIDS]: '0:500000:65536' }
    assert.equal(
      ownersOf(store.folder, await snapshotter.prepare('other', top, other))['user'],
      '501000:501000',
    )
    assert.equal(readdirSync(mapped).length, 2)
    for (const key of ['pod', 'other', 'view', 'plain']) await snapshotter.remove(key)
    assert.deepEqual(readdirSync(mapped), [])
    assert.deepEqual(findMountsBelow(join(store.folder, 'state')), [])
  })

  test('a snapshot with a mapping has its mounts again after they are gone, and a crash leaves none without a use', async () => {
    await using store = await createStore()
    const { snapshotter } = await store.open()
    const top = await claimLayers(snapshotter, store.layers)
    await snapshotter.prepare('pod', top, MAPPED)
    for (const { target } of findMountsBelow(join(store.folder, 'state'))) execFileSync('umount', [target])
    const again = await store.open()
    const report = await again.snapshotter.restoreMounts()
    assert.deepEqual([report.restored.length, report.failed], [2, []])
    assert.deepEqual(ownersOf(store.folder, await again.snapshotter.mounts('pod')), OWNERS)
    assert.deepEqual((await again.snapshotter.restoreMounts()).restored, [])
    // The row goes without the mount, as when a process is killed in between.
    again.parts.metadata.snapshots.remove(await idOf(again.parts, 'pod'))
    const recovered = await again.parts.provisioner.recover({
      restore: async () => assert.fail('there is no root filesystem'),
    })
    assert.equal(recovered.swept.length, 2)
    assert.deepEqual(findMountsBelow(join(store.folder, 'state')), [])
  })

  test('unpacked snapshots between the layers and a container are mapped with them, unless their files have the IDs of the machine', async () => {
    await using store = await createStore()
    const { snapshotter, parts } = await store.open()
    const top = await claimLayers(snapshotter, store.layers)
    const unpacked = await snapshotter.prepare('extract', top)
    within(store.folder, unpacked, (root) => {
      writeFileSync(join(root, 'unpacked'), '')
      chownSync(join(root, 'unpacked'), 1001, 1001)
    })
    await snapshotter.commit({ name: 'image', key: 'extract' })
    const mounts = await snapshotter.prepare('pod', 'image', MAPPED)
    const all = { ...OWNERS, unpacked: '300001:201001' }
    assert.deepEqual(ownersOf(store.folder, mounts), all)
    // A commit of the container: its files have the IDs of the machine.
    within(store.folder, mounts, (root) => {
      writeFileSync(join(root, 'own'), '')
      chownSync(join(root, 'own'), 100_000, 200_000)
    })
    // The root of the container may belong to any of its users.
    within(store.folder, mounts, (root) => {
      chownSync(root, 300_000, 201_000)
    })
    await snapshotter.commit({ name: 'committed', key: 'pod' })
    assert.equal(readdirSync(join(store.folder, 'state', 'mapped')).length, 0)
    const second = await snapshotter.prepare('second pod', 'committed', MAPPED)
    // The root of the mount is that of its own directory.
    assert.deepEqual(ownersOf(store.folder, second), { ...all, own: '100000:200000' })
    await snapshotter.remove('second pod')
    assert.deepEqual(readdirSync(join(store.folder, 'state', 'mapped')), [])
    assert.ok(existsSync(join(parts.paths.snapshots, String(await idOf(parts, 'committed')))))
  })

  test('a view with a mapping of one unpacked snapshot is mapped, which its client mounts as it is', async () => {
    await using store = await createStore()
    const { snapshotter } = await store.open()
    within(store.folder, await snapshotter.prepare('extract', ''), (root) => {
      writeFileSync(join(root, 'user'), '')
      chownSync(join(root, 'user'), 1000, 1000)
    })
    await snapshotter.commit({ name: 'unpacked', key: 'extract' })
    const view = await snapshotter.view('view', 'unpacked', MAPPED)
    assert.equal(view[0]?.type, 'bind')
    assert.equal(ownersOf(store.folder, view)['user'], '300000:201000')
    await snapshotter.remove('view')
    assert.deepEqual(findMountsBelow(join(store.folder, 'state')), [])
  })

  test('the changes of a container that was committed as a snapshot are read with the IDs of the container', async () => {
    await using store = await createStore()
    const { snapshotter, parts } = await store.open()
    const top = await claimLayers(snapshotter, store.layers)
    within(store.folder, await snapshotter.prepare('pod', top, MAPPED), (root) => {
      writeFileSync(join(root, 'own'), '')
      chownSync(join(root, 'own'), 100_000, 200_000)
    })
    await snapshotter.commit({ name: 'committed', key: 'pod' })
    await parts[Symbol.asyncDispose]()
    await using loam = await openLoam({ flags: store.flags, file: null })
    const tar = join(store.folder, 'changes.tar')
    await loam.snapshots.diff('committed', tar)
    const listed = execFileSync('tar', ['--numeric-owner', '-tvf', tar], { encoding: 'utf8' })
    assert.match(listed, /^-\S+ 0\/0 .*\/own$/m)
    assert.doesNotMatch(listed, /[12]00000/)
  })

  test('a mapping that an older version recorded and that is invalid maps nothing, and stops neither recovery nor removal', async () => {
    await using store = await createStore()
    const { snapshotter, parts } = await store.open()
    const top = await claimLayers(snapshotter, store.layers)
    await snapshotter.prepare('pod', top)
    const db = new DatabaseSync(parts.paths.database)
    db.exec("UPDATE snapshots SET id_mapping = '0:1:0/0:1:0' WHERE key = 'pod'")
    db.close()
    assert.deepEqual((await snapshotter.restoreMounts()).failed, [])
    assert.equal(ownersOf(store.folder, await snapshotter.mounts('pod'))['user'], '1000:1000')
    await snapshotter.remove('pod')
    assert.deepEqual(findMountsBelow(join(store.folder, 'state')), [])
  })

  test('a snapshot that cannot be recorded leaves no mount', async () => {
    await using store = await createStore()
    const { snapshotter, parts } = await store.open()
    const top = await claimLayers(snapshotter, store.layers)
    const { snapshots } = parts.metadata
    const insert = snapshots.insert.bind(snapshots)
    snapshots.insert = () => {
      throw new Error('the disk is full')
    }
    await assert.rejects(snapshotter.prepare('pod', top, MAPPED), /the disk is full/)
    snapshots.insert = insert
    assert.deepEqual(findMountsBelow(join(store.folder, 'state')), [])
    await snapshotter.prepare('pod', top, MAPPED)
    await snapshotter.remove('pod')
    assert.deepEqual(
      readdirSync(parts.paths.locks).filter((name) => name.startsWith('mount-') && name.includes('.')),
      [],
    )
  })

  test('a client that cannot map IDs has changed the owners itself, and nothing is mapped twice', async () => {
    await using store = await createStore()
    const { snapshotter } = await store.open()
    const top = await claimLayers(snapshotter, store.layers)
    const copy = await snapshotter.prepare('mapped copy', top)
    within(store.folder, copy, (root) => {
      for (const name of ['.', ...readdirSync(root)]) {
        const [uid, gid] = (OWNERS[name as keyof typeof OWNERS] ?? '').split(':').map(Number)
        chownSync(join(root, name), uid ?? 0, gid ?? 0)
      }
    })
    await snapshotter.commit({ name: 'remapped', key: 'mapped copy' })
    assert.deepEqual(ownersOf(store.folder, await snapshotter.prepare('pod', 'remapped', MAPPED)), OWNERS)
    // Without layers below it, too.
    const files = await snapshotter.prepare('files', '')
    within(store.folder, files, (root) => {
      chownSync(root, 100_000, 200_000)
    })
    await snapshotter.commit({ name: 'remapped files', key: 'files' })
    const [mount] = await snapshotter.prepare('second pod', 'remapped files', MAPPED)
    assert.ok(!(mount?.options ?? []).some((option) => option.startsWith('uidmap=')))
  })

  test('a mapping that the kernel would refuse, or that has no root, is refused with its reason', async () => {
    await using store = await createStore()
    const { snapshotter } = await store.open()
    const many = Array.from({ length: 341 }, (_value, index) => `${index}:${index}:1`).join(',')
    for (const [wrong, why] of [
      ['0:100000:10,5:200000:10', /ranges that overlap: container ID 0/],
      ['0:100000:10,10:100009:10', /ranges that overlap: host ID 100000/],
      ['0:100000:0', /has a range of length 0/],
      ['0:4294967290:10', /past 4294967294/],
      ['1:100000:10', /does not map 0/],
      ['0:1:2:3', /is not an ID mapping/],
      [many, /341 ranges, the limit is 340/],
    ] as const) {
      const labels = { ...MAPPED, [UIDS]: wrong }
      await assert.rejects(snapshotter.prepare('pod', '', labels), { code: 'SNAPSHOT_INVALID', message: why })
    }
    assert.deepEqual(await Array.fromAsync(snapshotter.list()), [])
  })
})

/** An ACL that gives user 100007 and group 200008 the right to read, and the capability net_raw for root of a namespace, as the kernel shows both. */
const ACL = acl([1, 6], [2, 4, 100_007], [4, 4], [8, 4, 200_008], [16, 4], [32, 4])
const CONTAINER_ACL = acl([1, 6], [2, 4, 7], [4, 4], [8, 4, 8], [16, 4], [32, 4])
const CAPABILITY = Buffer.from('0100000300200000000000000000000000000000a0860100', 'hex')
const CONTAINER_CAPABILITY = Buffer.from('0100000200200000000000000000000000000000', 'hex')

function acl(...entries: readonly (readonly [tag: number, permissions: number, id?: number])[]): Buffer {
  const value = Buffer.alloc(4 + 8 * entries.length)
  value.writeUInt32LE(2, 0)
  for (const [index, [tag, permissions, id = 0xffffffff]] of entries.entries()) {
    value.writeUInt16LE(tag, 4 + 8 * index)
    value.writeUInt16LE(permissions, 6 + 8 * index)
    value.writeUInt32LE(id, 8 + 8 * index)
  }
  return value
}

function setXattr(path: string, name: string, value: Buffer): void {
  libc().lsetxattr(path, name, value, value.length, 0)
}

function xattrsOf(path: string): Record<string, string> {
  return Object.fromEntries(
    readXattrs(Buffer.from(path)).map(({ name, value }) => [name.toString(), value.toString('hex')]),
  )
}

describe('root filesystems for user namespaces', () => {
  const userNamespace = { uids: MAPPED[UIDS], gids: MAPPED[GIDS] }

  test('a root filesystem shows the IDs of the machine, and exports and commits have those of the container', async () => {
    await using store = await createStore()
    await using loam = await openLoam({ flags: store.flags, file: null })
    const { rootfsPath } = await loam.provision(store.image, { id: 'c', userNamespace })
    assert.deepEqual(owners(rootfsPath), OWNERS)
    writeFileSync(join(rootfsPath, 'own'), '')
    chownSync(join(rootfsPath, 'own'), 300_001, 200_009)
    setXattr(join(rootfsPath, 'own'), 'system.posix_acl_access', ACL)
    setXattr(join(rootfsPath, 'own'), 'security.capability', CAPABILITY)
    const notes: string[] = []
    const onEvent = (event: { readonly kind: string; readonly text?: string }) => {
      if (event.kind === 'note') notes.push(event.text ?? '')
    }
    const [tar, committed] = [join(store.folder, 'c.tar'), join(store.folder, 'committed.tar')]
    await loam.export('c', { format: 'tar', output: tar, onEvent })
    assert.deepEqual(notes, ['/outside has an owner without an ID in the user namespace: it becomes nobody'])
    await loam.images.commit('c', 'committed:1')
    await loam.export('committed:1', { format: 'tar', output: committed })
    for (const file of [tar, committed]) {
      const root = join(store.folder, `${basename(file)}.unpacked`)
      mkdirSync(root)
      execFileSync('tar', ['-C', root, '--numeric-owner', '--xattrs', '--xattrs-include=*', '-xpf', file])
      assert.deepEqual(owners(root), {
        '.': '0:0',
        edge: '999:65535',
        // A commit has the layers of the image, as they are.
        outside: file === tar ? '65534:65534' : '70000:70000',
        own: '1001:9',
        root: '0:0',
        second: '5999:7',
        user: '1000:1000',
      })
      assert.deepEqual(xattrsOf(join(root, 'own')), {
        'security.capability': CONTAINER_CAPABILITY.toString('hex'),
        'system.posix_acl_access': CONTAINER_ACL.toString('hex'),
      })
    }
    assert.equal(
      (await loam.containers.find('c'))?.rootfses[0]?.idMapping,
      `${userNamespace.uids}/${userNamespace.gids}`,
    )
    await loam.destroy('c')
    assert.deepEqual(readdirSync(join(store.folder, 'state', 'mapped')), [])
    assert.deepEqual(findMountsBelow(store.folder), [])
  })

  test('a root filesystem with a mapping comes back after its mounts are gone, with its volumes', async () => {
    await using store = await createStore()
    await using loam = await openLoam({ flags: store.flags, file: null })
    const { rootfsPath } = await loam.provision(store.image, { id: 'c', userNamespace })
    writeFileSync(join(rootfsPath, 'own'), '')
    const [volume] = await loam.containers.provisionVolumes([{ image: store.image, target: '/data' }], {
      id: 'c',
    })
    assert.deepEqual(owners(join(rootfsPath, 'data')), OWNERS)
    assert.ok(volume !== undefined)
    for (const { target } of findMountsBelow(store.folder)) execFileSync('umount', ['-l', target])
    assert.deepEqual(readdirSync(rootfsPath), [])
    const report = await loam.recover()
    assert.deepEqual([report.failed, report.restored.length], [[], 2])
    assert.deepEqual(owners(join(rootfsPath, 'data')), OWNERS)
    assert.deepEqual(owners(rootfsPath), { ...OWNERS, data: OWNERS['.'], own: '0:0' })
    await loam.destroy('c')
    assert.deepEqual(findMountsBelow(store.folder), [])
  })

  test('an invalid mapping, and a backend that cannot map, are refused before anything is made', async () => {
    await using store = await createStore()
    await using loam = await openLoam({ flags: store.flags, file: null })
    const wrong = { uids: '0:1:10,5:20:10', gids: '0:1:10' }
    await assert.rejects(loam.provision(store.image, { userNamespace: wrong }), {
      code: 'USAGE',
      message: /ranges that overlap: container ID 0/,
    })
    for (const backend of ['overlay', 'copy', 'bind'])
      await assert.rejects(loam.provision(store.image, { backend, userNamespace }), {
        code: 'BACKEND_UNSUPPORTED',
        message: /it cannot map IDs for a user namespace/,
      })
    assert.deepEqual(await loam.containers.list(), [])
  })
})

async function idOf({ metadata }: Wiring, name: string): Promise<number> {
  const found = [...metadata.snapshots.list()].find(({ key }) => key === name)
  assert.ok(found !== undefined)
  return found.id
}
