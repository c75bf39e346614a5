import assert from 'node:assert/strict'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { type ErrorCode, isLoamError } from '../errors/index.ts'
import type {
  SnapshotCommitOptions,
  SnapshotInfo,
  SnapshotMount,
  SnapshotUsage,
} from '../snapshotter/index.ts'
import { mountSnapshot } from './mounting.ts'

type Labels = Readonly<Record<string, string>>

/** containerd's contract of a snapshotter, as this suite calls it. */
export interface SnapshotterContract {
  readonly stat: (key: string) => SnapshotInfo | Promise<SnapshotInfo>
  readonly update: (
    key: string,
    labels: Labels,
    fieldPaths?: readonly string[],
  ) => SnapshotInfo | Promise<SnapshotInfo>
  readonly usage: (key: string) => Promise<SnapshotUsage>
  readonly mounts: (key: string) => Promise<SnapshotMount[]>
  readonly prepare: (key: string, parent: string, labels?: Labels) => Promise<SnapshotMount[]>
  readonly view: (key: string, parent: string, labels?: Labels) => Promise<SnapshotMount[]>
  readonly commit: (options: SnapshotCommitOptions) => Promise<void>
  readonly remove: (key: string) => void | Promise<void>
  readonly walk: (
    act: (info: SnapshotInfo) => void | Promise<void>,
    filters?: readonly string[],
  ) => Promise<void>
  readonly cleanup: () => Promise<void>
  readonly close: () => Promise<void>
}

/** A snapshotter under test. */
export interface SnapshotterUnderTest extends AsyncDisposable {
  readonly snapshotter: SnapshotterContract
  /** Opens the same snapshots as a new process would. */
  readonly reopen: () => Promise<SnapshotterContract>
}

/** Registers the tests that every snapshotter has to pass. `make` gives each of them one of its own. Root is needed. */
export function snapshotterConformance(name: string, make: () => Promise<SnapshotterUnderTest>): void {
  const check = (
    what: string,
    act: (snapshotter: SnapshotterContract, world: SnapshotterUnderTest) => Promise<void>,
  ): void => {
    void test(`${name}: ${what}`, async () => {
      await using world = await make()
      await act(world.snapshotter, world)
    })
  }

  check('an active snapshot is written to, committed, and read in the next one', async (snapshotter) => {
    inMount(await snapshotter.prepare('one', ''), (root) => {
      assert.equal(statSync(root).mode & 0o777, 0o755)
      writeFileSync(join(root, 'file'), 'one')
      writeFileSync(join(root, 'gone'), 'x')
      mkdirSync(join(root, 'dir'))
      writeFileSync(join(root, 'dir/low'), 'low')
    })
    await snapshotter.commit({ name: 'base', key: 'one' })
    inMount(await snapshotter.prepare('two', 'base'), (root) => {
      assert.deepEqual(readdirSync(root).toSorted(), ['dir', 'file', 'gone'])
      unlinkSync(join(root, 'gone'))
      rmSync(join(root, 'dir'), { recursive: true })
      mkdirSync(join(root, 'dir'))
      writeFileSync(join(root, 'file'), 'two')
    })
    await snapshotter.commit({ name: 'top', key: 'two' })
    inMount(await snapshotter.view('look', 'top'), (root) => {
      assert.deepEqual(readdirSync(root).toSorted(), ['dir', 'file'])
      assert.deepEqual(readdirSync(join(root, 'dir')), [])
      assert.equal(readFileSync(join(root, 'file'), 'utf8'), 'two')
      assert.throws(() => {
        writeFileSync(join(root, 'file'), 'x')
      }, /EROFS/)
    })
    inMount(await snapshotter.view('base look', 'base'), (root) => {
      assert.equal(readFileSync(join(root, 'file'), 'utf8'), 'one')
      assert.throws(() => {
        writeFileSync(join(root, 'file'), 'x')
      }, /EROFS/)
    })
  })

  check('128 snapshots are one mount', async (snapshotter) => {
    let parent = ''
    for (let index = 0; index < 128; index += 1) {
      inMount(await snapshotter.prepare('active', parent), (root) => {
        writeFileSync(join(root, `f${index}`), '')
        if (index > 0) unlinkSync(join(root, `f${index - 1}`))
      })
      parent = `layer ${index}`
      await snapshotter.commit({ name: parent, key: 'active' })
    }
    inMount(await snapshotter.view('all', parent), (root) => {
      assert.deepEqual(readdirSync(root), ['f127'])
    })
  })

  check(
    'stat returns kind, parent, labels and times, and the same after a restart',
    async (snapshotter, world) => {
      const before = Date.now() * 1000
      await snapshotter.prepare('active', '', { 'containerd.io/gc.root': 'x', empty: '' })
      const active = await snapshotter.stat('active')
      assert.deepEqual(
        [active.kind, active.parent, active.labels],
        ['active', '', { 'containerd.io/gc.root': 'x' }],
      )
      assert.ok(active.createdUs >= before && active.createdUs <= (Date.now() + 1) * 1000)
      assert.equal(active.updatedUs, active.createdUs)
      await snapshotter.commit({ name: 'done', key: 'active', labels: { own: 'y' } })
      const done = await snapshotter.stat('done')
      // Labels are those of the commit, and not of the active one.
      assert.deepEqual([done.kind, done.labels], ['committed', { own: 'y' }])
      await rejects(async () => snapshotter.stat('active'), 'SNAPSHOT_NOT_FOUND')
      await snapshotter.view('seen', 'done')
      assert.deepEqual(
        [(await snapshotter.stat('seen')).kind, (await snapshotter.stat('seen')).parent],
        ['view', 'done'],
      )
      const again = await world.reopen()
      assert.deepEqual(await again.stat('done'), done)
      assert.deepEqual(await again.mounts('seen'), await snapshotter.mounts('seen'))
      await again.close()
      await again.close()
    },
  )

  check('mounts returns the same as prepare, and committed snapshots have none', async (snapshotter) => {
    const first = await snapshotter.prepare('one', '')
    assert.deepEqual(await snapshotter.mounts('one'), first)
    await snapshotter.commit({ name: 'base', key: 'one' })
    await rejects(async () => snapshotter.mounts('base'), 'SNAPSHOT_KIND')
    await rejects(async () => snapshotter.mounts('never'), 'SNAPSHOT_NOT_FOUND')
    const second = await snapshotter.prepare('two', 'base')
    assert.deepEqual(await snapshotter.mounts('two'), second)
  })

  check('a name is used once, by whatever kind of snapshot', async (snapshotter) => {
    await snapshotter.prepare('key', '')
    await rejects(async () => snapshotter.prepare('key', ''), 'SNAPSHOT_EXISTS')
    await rejects(async () => snapshotter.view('key', ''), 'SNAPSHOT_EXISTS')
    // The existing one is unchanged.
    inMount(await snapshotter.mounts('key'), (root) => {
      writeFileSync(join(root, 'kept'), '')
    })
    await snapshotter.commit({ name: 'base', key: 'key' })
    await rejects(async () => snapshotter.prepare('base', ''), 'SNAPSHOT_EXISTS')
    await snapshotter.prepare('key', 'base')
    await rejects(async () => snapshotter.commit({ name: 'base', key: 'key' }), 'SNAPSHOT_EXISTS')
    assert.equal((await snapshotter.stat('key')).kind, 'active')
    await rejects(async () => snapshotter.prepare('', ''), 'SNAPSHOT_INVALID')
    await rejects(async () => snapshotter.commit({ name: '', key: 'key' }), 'SNAPSHOT_INVALID')
    for (const odd of ['a/b c:d sha256:x', 'ü'.repeat(500), '..', '\n'])
      await snapshotter.prepare(odd, 'base')
  })

  check('only committed snapshots are parents, and only active ones are committed', async (snapshotter) => {
    await rejects(async () => snapshotter.prepare('x', 'nothing'), 'SNAPSHOT_NOT_FOUND')
    await snapshotter.prepare('active', '')
    await snapshotter.view('view', '')
    await rejects(async () => snapshotter.prepare('x', 'active'), 'SNAPSHOT_INVALID')
    await rejects(async () => snapshotter.view('x', 'view'), 'SNAPSHOT_INVALID')
    await rejects(async () => snapshotter.stat('x'), 'SNAPSHOT_NOT_FOUND')
    await rejects(async () => snapshotter.commit({ name: 'y', key: 'view' }), 'SNAPSHOT_KIND')
    await rejects(async () => snapshotter.commit({ name: 'y', key: 'never' }), 'SNAPSHOT_NOT_FOUND')
    await snapshotter.commit({ name: 'base', key: 'active' })
    await rejects(async () => snapshotter.commit({ name: 'y', key: 'base' }), 'SNAPSHOT_KIND')
  })

  check('a commit may give the parent that a snapshot was made without', async (snapshotter) => {
    await snapshotter.prepare('a', '')
    await snapshotter.commit({ name: 'base', key: 'a' })
    await snapshotter.prepare('b', '')
    await rejects(
      async () => snapshotter.commit({ name: 'top', key: 'b', rebase: 'nothing' }),
      'SNAPSHOT_NOT_FOUND',
    )
    await snapshotter.commit({ name: 'top', key: 'b', rebase: 'base' })
    assert.equal((await snapshotter.stat('top')).parent, 'base')
    await snapshotter.prepare('c', 'top')
    await rejects(async () => snapshotter.commit({ name: 'x', key: 'c', rebase: 'base' }), 'SNAPSHOT_INVALID')
    await snapshotter.prepare('d', '')
    await rejects(async () => snapshotter.commit({ name: 'x', key: 'd', rebase: 'c' }), 'SNAPSHOT_KIND')
  })

  check('labels are replaced together or one by one, and have limits', async (snapshotter) => {
    await snapshotter.prepare('key', '', { a: '1', 'b.c/d': '2' })
    const created = await snapshotter.stat('key')
    const one = await snapshotter.update('key', { a: 'x', 'b.c/d': 'y', new: 'z' }, ['labels.b.c/d'])
    assert.deepEqual(one.labels, { a: '1', 'b.c/d': 'y' })
    assert.ok(one.updatedUs > created.updatedUs)
    assert.equal(one.createdUs, created.createdUs)
    assert.deepEqual((await snapshotter.update('key', {}, ['labels.a'])).labels, { 'b.c/d': 'y' })
    assert.deepEqual((await snapshotter.update('key', { q: '1', r: '' }, ['labels'])).labels, { q: '1' })
    assert.deepEqual((await snapshotter.update('key', { s: '2' })).labels, { s: '2' })
    for (const path of ['name', 'parent', 'kind', 'labels.', 'Labels.a']) {
      await rejects(async () => snapshotter.update('key', { a: '1' }, [path]), 'SNAPSHOT_INVALID')
    }
    await rejects(async () => snapshotter.update('key', { a: 'x'.repeat(4096) }), 'SNAPSHOT_INVALID')
    await rejects(
      async () => snapshotter.prepare('flood', '', { ['k'.repeat(4000)]: 'v'.repeat(97) }),
      'SNAPSHOT_INVALID',
    )
    assert.deepEqual((await snapshotter.stat('key')).labels, { s: '2' })
    await rejects(async () => snapshotter.update('never', {}), 'SNAPSHOT_NOT_FOUND')
    await snapshotter.update('key', { ['k'.repeat(4000)]: 'v'.repeat(96) })
  })

  check('a mapping of ids owns the root, and is passed on with the mount', async (snapshotter) => {
    await snapshotter.prepare('below', '')
    await snapshotter.commit({ name: 'base', key: 'below' })
    const mapped = {
      'containerd.io/snapshot/uidmapping': '1000:7:1,0:2000:1000',
      'containerd.io/snapshot/gidmapping': '0:3000:65536',
    }
    const [mount] = await snapshotter.prepare('key', 'base', mapped)
    const options = mount?.options ?? []
    assert.ok(options.includes('uidmap=1000:7:1,0:2000:1000') && options.includes('gidmap=0:3000:65536'))
    const upper = options.find((option) => option.startsWith('upperdir='))?.slice('upperdir='.length)
    const { uid, gid } = statSync(upper ?? '')
    assert.deepEqual([uid, gid], [2000, 3000])
    for (const wrong of ['x', '0:1', '5:6:7']) {
      const labels = { ...mapped, 'containerd.io/snapshot/uidmapping': wrong }
      await rejects(async () => snapshotter.prepare('wrong', 'base', labels), 'SNAPSHOT_INVALID')
    }
    await rejects(async () => snapshotter.stat('wrong'), 'SNAPSHOT_NOT_FOUND')
  })

  check(
    'a snapshot that others depend on is not removed, and a key may be used again at once',
    async (snapshotter) => {
      await rejects(async () => snapshotter.remove('never'), 'SNAPSHOT_NOT_FOUND')
      inMount(await snapshotter.prepare('a', ''), (root) => {
        writeFileSync(join(root, 'old'), '')
      })
      await snapshotter.commit({ name: 'base', key: 'a' })
      for (const method of ['prepare', 'view'] as const) {
        await snapshotter[method]('child', 'base')
        await assert.rejects(async () => snapshotter.remove('base'), /remove/)
        await rejects(async () => snapshotter.remove('base'), 'SNAPSHOT_IN_USE')
        await snapshotter.remove('child')
      }
      await snapshotter.remove('base')
      inMount(await snapshotter.prepare('base', ''), (root) => {
        assert.deepEqual(readdirSync(root), [])
      })
    },
  )

  check(
    'usage is measured for an active snapshot, stored by a commit, and zero for a view',
    async (snapshotter) => {
      const mounts = await snapshotter.prepare('a', '')
      const empty = await snapshotter.usage('a')
      inMount(mounts, (root) => {
        writeFileSync(join(root, 'file'), Buffer.alloc(1 << 20, 1))
      })
      const active = await snapshotter.usage('a')
      assert.ok(active.sizeBytes - empty.sizeBytes >= 1 << 20)
      assert.equal(active.inodes, empty.inodes + 1)
      await snapshotter.commit({ name: 'base', key: 'a' })
      assert.deepEqual(await snapshotter.usage('base'), active)
      await snapshotter.view('v', 'base')
      assert.deepEqual(await snapshotter.usage('v'), { sizeBytes: 0, inodes: 0 })
      // Without its parents.
      await snapshotter.prepare('b', 'base')
      assert.ok((await snapshotter.usage('b')).sizeBytes < 1 << 20)
      await rejects(async () => snapshotter.usage('never'), 'SNAPSHOT_NOT_FOUND')
    },
  )

  check('walk visits all snapshots, by filters some, and does not block other calls', async (snapshotter) => {
    const walk = async (...filters: string[]) => {
      const names: string[] = []
      await snapshotter.walk(({ name: found }) => {
        names.push(found)
      }, filters)
      return names.toSorted()
    }
    assert.deepEqual(await walk(), [])
    await snapshotter.prepare('a', '', { 'containerd.io/gc.root': 'x', plain: 'one' })
    await snapshotter.commit({
      name: 'base',
      key: 'a',
      labels: { 'containerd.io/snapshot.ref': 'sha256:ab', plain: 'two' },
    })
    await snapshotter.prepare('b', 'base', { plain: 'three' })
    await snapshotter.view('c', 'base')
    assert.deepEqual(await walk(), ['b', 'base', 'c'])
    assert.deepEqual(await walk('kind==active'), ['b'])
    assert.deepEqual(await walk('kind==active', 'kind==view'), ['b', 'c'])
    assert.deepEqual(await walk('parent==base,kind==view'), ['c'])
    assert.deepEqual(await walk('labels.plain'), ['b', 'base'])
    assert.deepEqual(await walk('labels.plain!=two'), ['b', 'c'])
    assert.deepEqual(await walk('labels.plain~=^t'), ['b', 'base'])
    assert.deepEqual(await walk('labels."containerd.io/snapshot.ref"==sha256:ab,parent==""'), ['base'])
    assert.deepEqual(await walk('labels."containerd.io/snapshot.ref"==sha256:ab'), ['base'])
    assert.deepEqual(await walk('name=="b"'), ['b'])
    assert.deepEqual(await walk('parent!=""'), ['b', 'c'])
    assert.deepEqual(await walk('colour==red'), [])
    assert.deepEqual(await walk('labels.plain~=['), [])
    assert.deepEqual(await walk(''), ['b', 'base', 'c'])
    for (const broken of ['==x', 'name==', 'name=="open', 'name==x,', 'name x', ',']) {
      await rejects(async () => snapshotter.walk(() => undefined, [broken]), 'SNAPSHOT_INVALID')
    }
    const stats: SnapshotInfo[] = []
    await snapshotter.walk(async ({ name: found }) => {
      stats.push(await snapshotter.stat(found))
      if (found === 'c') await snapshotter.remove('c')
    })
    assert.equal(stats.length, 3)
    assert.deepEqual(await walk(), ['b', 'base'])
  })

  check(
    'cleanup frees the space of removed snapshots, and may be called at any time',
    async (snapshotter) => {
      await snapshotter.cleanup()
      const [mount] = await snapshotter.prepare('a', '')
      assert.ok(mount !== undefined)
      writeFileSync(join(mount.source, 'file'), Buffer.alloc(1 << 20))
      await snapshotter.remove('a')
      await Promise.all([snapshotter.cleanup(), snapshotter.prepare('b', ''), snapshotter.cleanup()])
      assert.equal(existsSync(mount.source), false)
      inMount(await snapshotter.mounts('b'), (root) => {
        writeFileSync(join(root, 'file'), '')
      })
    },
  )

  check('many concurrent calls have the same results as single ones', async (snapshotter) => {
    await Promise.all(
      Array.from({ length: 32 }, async (_value, worker) => {
        let parent = ''
        for (let round = 0; round < 5; round += 1) {
          const key = `w${worker} ${round}`
          await snapshotter.prepare(`${key} active`, parent)
          await snapshotter.commit({ name: key, key: `${key} active` })
          await snapshotter.view(`${key} view`, key)
          await snapshotter.remove(`${key} view`)
          parent = key
        }
      }),
    )
    let count = 0
    await snapshotter.walk(({ kind }) => {
      assert.equal(kind, 'committed')
      count += 1
    })
    assert.equal(count, 160)
  })
}

function inMount(mounts: readonly SnapshotMount[], act: (root: string) => void): void {
  const root = mkdtempSync(join(tmpdir(), 'loam-snapshot-'))
  try {
    using _mounted = mountSnapshot(mounts, root)
    act(root)
  } finally {
    rmSync(root, { recursive: true })
  }
}

async function rejects(act: () => unknown, code: ErrorCode): Promise<void> {
  await assert.rejects(
    async () => act(),
    (error) => isLoamError(error, code),
    code,
  )
}
