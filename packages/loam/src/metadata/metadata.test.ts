import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { parseChainId, parseDiffId, parseDigest, storedReference } from '../image/index.ts'
import { MetadataStore, parseContainerId, snapshotKey } from './index.ts'
import { MIGRATIONS } from './schema.ts'

const DIGEST = `sha256:${'a'.repeat(64)}`

const SUMMARY = {
  entries: 1,
  fileBytes: 2,
  hasOpaqueRoot: false,
  hasImplicitDirectories: false,
  hasLowerLinks: false,
  hasZeroDevices: false,
  hasWhiteouts: false,
  root: undefined,
}

const RECORD = {
  type: 'docker',
  mediaType: 'x',
  configDigest: parseDigest(DIGEST),
  chainId: undefined,
  platform: 'linux/amd64',
  sizeBytes: 1,
  created: undefined,
  pulledAtMs: 1,
  usedAtMs: 1,
  isLocal: false,
  layers: [],
} as const

/** Rows that tables of a version may hold, in the columns of that version. */
const ROWS: readonly string[] = [
  `INSERT INTO images VALUES ('${DIGEST}', 't', '${DIGEST}', NULL, 'linux/amd64', 1, NULL, 2, 3);
   INSERT INTO image_layers VALUES ('${DIGEST}', 0, '${DIGEST}', '${DIGEST}', 'm', 5);
   INSERT INTO names VALUES ('r:1', 'linux/amd64', '${DIGEST}', '${DIGEST}', 2);
   INSERT INTO containers VALUES ('c', NULL, 4);
   INSERT INTO rootfses VALUES ('u', 'c', 'ready', 'copy', 'r', '${DIGEST}', NULL, '/r', '/s', 0, 'b', 5);
   INSERT INTO forms VALUES ('${DIGEST}', 'fs', 'b', 1, 6)`,
  `UPDATE images SET type = 'appc'; UPDATE rootfses SET volume_target = '/data'`,
  `INSERT INTO snapshots VALUES (7, 'k', 'active', NULL, '{}', 1, 2, 0, 0, NULL, NULL)`,
  `INSERT INTO decisions VALUES ('${DIGEST}', 'r', 's', 'p', '${DIGEST}', NULL, 6)`,
  '',
  '',
  `INSERT INTO rootfses VALUES ('v', 'c', 'ready', 'copy', 'r', '${DIGEST}', NULL, '/r2', '/s2', 0, 'b', 6, '/r/data/vol')`,
  '',
  '',
  '',
  `INSERT INTO layers VALUES ('${DIGEST}', 7, '{}', 8)`,
  `INSERT INTO snapshots (id, key, kind, labels, created_us, updated_us, size_bytes, inodes) VALUES
     (8, 'mapped', 'active', '{"containerd.io/snapshot/uidmapping":"0:1:9","containerd.io/snapshot/gidmapping":"0:2:9"}', 1, 2, 0, 0),
     (9, 'half', 'active', '{"containerd.io/snapshot/uidmapping":"0:1:9"}', 1, 2, 0, 0)`,
  '',
  `UPDATE snapshots SET applied_diff_id = '${DIGEST}' WHERE id = 9`,
  '',
  '',
  '',
  '',
  '',
]

function columnsOf(database: DatabaseSync): unknown[] {
  return database
    .prepare(
      `SELECT t.name AS tab, c.name AS col, c.type, c."notnull" AS n, c.pk FROM sqlite_schema t JOIN pragma_table_info(t.name) c
       WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%' ORDER BY tab, col`,
    )
    .all()
}

async function inFolder(act: (path: string, lock: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'loam-metadata-'))
  try {
    await act(join(folder, 'metadata.db'), join(folder, 'lock'))
  } finally {
    rmSync(folder, { recursive: true })
  }
}

for (const [index] of ROWS.entries()) {
  const version = index + 1
  test(`tables of version ${version} are upgraded to the current ones, with all their content`, async () => {
    await inFolder(async (path, lock) => {
      {
        using old = new DatabaseSync(path)
        for (const [step, rows] of ROWS.slice(0, version).entries()) old.exec(`${MIGRATIONS[step]}; ${rows}`)
        old.exec(`PRAGMA user_version = ${version}`)
      }
      {
        using store = await MetadataStore.open(path, { lockFile: lock })
        const [image] = store.images.list()
        assert.equal(image?.type, version > 1 ? 'appc' : 'docker')
        assert.equal(image.layers.length, 1)
        assert.equal(store.images.findNames(storedReference('r:1')).length, 1)
        const [rootfs] = store.containers.rootfses(parseContainerId('c'))
        assert.equal(rootfs?.volumeTarget, version > 1 ? '/data' : undefined)
        assert.equal(rootfs?.volumeRoot, version > 1 ? '/' : undefined)
        const inRootfs = store.containers.rootfses(parseContainerId('c')).find(({ uuid }) => uuid === 'v')
        assert.equal(inRootfs?.volumeRoot, version > 6 ? '/r' : undefined)
        assert.equal(store.snapshots.find(snapshotKey('k'))?.id, version > 2 ? 7 : undefined)
        assert.equal(store.decisions.list(image.digest).length, version > 3 ? 1 : 0)
        const [layer] = store.layers.list()
        assert.equal(layer?.data, version > 10 ? 'complete' : undefined)
        assert.equal(
          store.layers.findArtifact(image.digest, 'unpacked')?.generation,
          1,
          'artifacts of the earlier version are outdated',
        )
      }
      using migrated = new DatabaseSync(path)
      using fresh = new DatabaseSync(':memory:')
      for (const step of MIGRATIONS) fresh.exec(step)
      assert.deepEqual(columnsOf(migrated), columnsOf(fresh))
      assert.deepEqual(migrated.prepare('PRAGMA foreign_key_check').all(), [])
      assert.equal(migrated.prepare('PRAGMA user_version').get()?.['user_version'], MIGRATIONS.length)
    })
  })
}

test('images of older tables count as fetched if a registry packed them and no file gave them a name', async () => {
  await inFolder(async (path, lock) => {
    const digest = (letter: string) => `sha256:${letter.repeat(64)}`
    const images: readonly (readonly [
      letter: string,
      type: string,
      isPacked: boolean,
      names: readonly string[],
    ])[] = [
      ['1', 'docker', true, ['docker.io/library/pulled:1']],
      ['2', 'docker', false, ['docker.io/library/committed:1']],
      ['3', 'docker', true, ['docker.io/library/put:1', 'docker-archive:/a.tar']],
      ['4', 'docker', true, ['oci:/layout:1']],
      ['5', 'docker', true, []],
      ['6', 'appc', true, ['appc://example.com/app']],
    ]
    {
      using old = new DatabaseSync(path)
      for (const step of MIGRATIONS.slice(0, 4)) old.exec(step)
      old.exec('PRAGMA user_version = 4')
      for (const [letter, type, isPacked, names] of images) {
        const own = digest(letter)
        old.exec(
          `INSERT INTO images VALUES ('${own}', 't', '${own}', NULL, 'linux/amd64', 1, NULL, ${letter}, 3, '${type}')`,
        )
        old.exec(
          `INSERT INTO image_layers VALUES ('${own}', 0, '${own}', '${isPacked ? DIGEST : own}', 'm', 5)`,
        )
        for (const name of names)
          old.exec(`INSERT INTO names VALUES ('${name}', 'linux/amd64', '${own}', '${own}', 2)`)
      }
    }
    using store = await MetadataStore.open(path, { lockFile: lock })
    assert.deepEqual(
      store.images.list().map(({ isLocal }) => isLocal),
      [false, true, true, true, true, true],
    )
  })
})

test('names of older tables keep whether a file or a registry gave them', async () => {
  await inFolder(async (path, lock) => {
    const other = `sha256:${'b'.repeat(64)}`
    {
      using old = new DatabaseSync(path)
      for (const step of MIGRATIONS.slice(0, 7)) old.exec(step)
      old.exec('PRAGMA user_version = 7')
      for (const [digest, isLocal] of [
        [DIGEST, 0],
        [other, 1],
      ] as const)
        old.exec(
          `INSERT INTO images VALUES ('${digest}', 't', '${digest}', NULL, 'linux/amd64', 1, NULL, 2, 3, 'docker', ${isLocal})`,
        )
      const names = {
        'docker.io/library/pulled:1': DIGEST,
        'docker.io/library/tagged:1': DIGEST,
        'docker.io/library/put:1': other,
        'docker-archive:/a.tar': other,
        [`docker.io/library/put@${DIGEST}`]: other,
        [`docker.io/library/put@${other}`]: other,
      }
      for (const [name, digest] of Object.entries(names))
        old.exec(`INSERT INTO names VALUES ('${name}', 'linux/amd64', '${digest}', '${digest}', 2)`)
      old.exec(`INSERT INTO origins VALUES ('${DIGEST}', 'docker.io/library/pulled:1')`)
      old.exec(`INSERT INTO origins VALUES ('${other}', 'docker.io/library/put:1')`)
    }
    using store = await MetadataStore.open(path, { lockFile: lock })
    assert.deepEqual(
      Object.fromEntries(
        store.images.listNames().map(({ reference, origin }) => [reference, origin?.givenBy]),
      ),
      {
        'docker-archive:/a.tar': 'location',
        'docker.io/library/pulled:1': 'location',
        'docker.io/library/put:1': undefined,
        [`docker.io/library/put@${other}`]: undefined,
        'docker.io/library/tagged:1': undefined,
      },
      'and a name with the digest of another image is not believed',
    )
    assert.deepEqual(store.images.findNames(storedReference(`docker.io/library/put@${DIGEST}`)), [])
  })
})

test('a mount of a stack is in use by its root filesystems and snapshots, also those of older tables', async () => {
  await inFolder(async (path, lock) => {
    const chain = (letter: string) => parseChainId(`sha256:${letter.repeat(64)}`)
    {
      using old = new DatabaseSync(path)
      for (const step of MIGRATIONS.slice(0, 10)) old.exec(step)
      old.exec(`PRAGMA user_version = 10; INSERT INTO containers VALUES ('c', NULL, 4)`)
      for (const [letter, backend] of [
        ['1', 'erofs'],
        ['2', 'overlay'],
      ] as const)
        old.exec(
          `INSERT INTO rootfses VALUES ('${backend}', 'c', 'ready', '${backend}', 'r', '${DIGEST}', '${chain(letter)}', '/r', '/s', 0,
             'b', 5, NULL, NULL, NULL)`,
        )
      for (const [letter, layer] of [
        ['3', 'NULL'],
        ['4', `'${DIGEST}'`],
      ] as const)
        old.exec(
          `INSERT INTO snapshots VALUES (NULL, 'k${letter}', 'active', NULL, '{}', 1, 2, 0, 0, ${layer}, '${chain(letter)}')`,
        )
    }
    using store = await MetadataStore.open(path, { lockFile: lock })
    const chains = ['1', '2', '3', '4', '5'].map(chain)
    assert.deepEqual(
      chains.map((chainId) => store.layers.isMountUsed(chainId)),
      [true, false, true, false, false],
    )
    assert.deepEqual(
      chains.map((chainId) => store.layers.isFolderUsed(chainId)),
      [false, true, false, false, false],
    )
    const [record] = store.containers.rootfses(parseContainerId('c'))
    assert.ok(record !== undefined)
    await store.containers.putRootfs({ ...record, uuid: 'on a mount', chainId: chain('5') }, true)
    await store.containers.putRootfs({ ...record, uuid: 'on directories', chainId: chain('4') }, false)
    assert.deepEqual(
      chains.map((chainId) => store.layers.isMountUsed(chainId)),
      [true, false, true, false, true],
    )
    assert.ok(store.layers.isFolderUsed(chain('4')))
  })
})

test('an artifact that is rebuilt while the others are synced is not known to be on the disk, also if the clock was set back', async () => {
  await inFolder(async (path, lock) => {
    using store = await MetadataStore.open(path, { lockFile: lock })
    const { layers } = store
    const owner = parseChainId(DIGEST)
    const artifact = { owner, bootId: 'b', isDurable: false, createdAtMs: 2000, generation: 1 } as const
    for (const kind of ['merged', 'flat'] as const) await layers.putArtifact({ ...artifact, kind })
    const listed = layers.listUnsynced('b')
    await layers.putArtifact({ ...artifact, kind: 'flat', createdAtMs: 1000 })
    await layers.markSynced(listed)
    assert.equal(layers.findArtifact(owner, 'merged')?.isDurable, true)
    assert.equal(layers.findArtifact(owner, 'flat')?.isDurable, false)
  })
})

test('an unknown word in a column is reported as a damaged database, and its meaning is never guessed', async () => {
  await inFolder(async (path, lock) => {
    {
      using store = await MetadataStore.open(path, { lockFile: lock })
      await store.layers.putArtifact({
        owner: parseChainId(DIGEST),
        kind: 'merged',
        bootId: 'b',
        isDurable: false,
        createdAtMs: 1,
        generation: 1,
      })
    }
    {
      using other = new DatabaseSync(path)
      other.exec(`UPDATE artifacts SET kind = 'squashed'`)
    }
    using store = await MetadataStore.open(path, { lockFile: lock })
    assert.throws(
      () => store.layers.listArtifacts(),
      (error) => isLoamError(error, 'STORE_FORMAT'),
    )
  })
})

test('a partial layer is listed with its source until it is complete, and its source is kept until it is removed', async () => {
  await inFolder(async (path, lock) => {
    using store = await MetadataStore.open(path, { lockFile: lock })
    const { layers } = store
    const diffId = parseDiffId(DIGEST)
    const source = {
      diffId,
      blob: { digest: diffId, mediaType: 'm', sizeBytes: 5 },
      reference: 'r:1',
      indexDigest: parseDigest(`sha256:${'b'.repeat(64)}`),
      trustedBy: 'own',
    }
    const artifact = { owner: diffId, bootId: 'b', isDurable: false, createdAtMs: 1, generation: 1 } as const
    const layer = { diffId, tarBytes: 7, summary: SUMMARY, createdAtMs: 8 }
    await layers.putPartial({ ...layer, data: 'partial' }, source, { ...artifact, kind: 'meta' })
    assert.equal(layers.find(diffId)?.data, 'partial')
    assert.deepEqual(layers.partials(), [source])
    assert.equal(layers.findArtifact(diffId, 'tar'), undefined)

    assert.equal(await layers.complete(diffId, { ...artifact, kind: 'tar' }), true)
    assert.equal(layers.find(diffId)?.data, 'complete')
    assert.equal(layers.findArtifact(diffId, 'tar')?.bootId, 'b')
    assert.deepEqual(layers.partials(), [])
    await layers.put({ ...layer, tarBytes: 9, data: 'complete' }, [])
    assert.deepEqual(layers.partialSource(diffId), source, 'its data can be fetched once more')

    await layers.remove(diffId)
    assert.equal(layers.partialSource(diffId), undefined)
    assert.equal(await layers.complete(diffId, { ...artifact, kind: 'tar' }), false)
    assert.equal(layers.findArtifact(diffId, 'tar'), undefined)
  })
})

test('a lazy index that was denied stays denied, with the first reason', async () => {
  await inFolder(async (path, lock) => {
    const indexDigest = parseDigest(DIGEST)
    {
      using store = await MetadataStore.open(path, { lockFile: lock })
      assert.equal(store.layers.denialOf(indexDigest), undefined)
      await store.layers.denyIndex(indexDigest, 'first')
      await store.layers.denyIndex(indexDigest, 'second')
    }
    using store = await MetadataStore.open(path, { lockFile: lock })
    assert.equal(store.layers.denialOf(indexDigest), 'first')
  })
})

test('denied lazy indexes are listed with their reasons', async () => {
  await inFolder(async (path, lock) => {
    using store = await MetadataStore.open(path, { lockFile: lock })
    await store.layers.denyIndex(parseDigest(DIGEST), 'wrong')
    const denied = store.lazy.denied().map(({ indexDigest, reason }) => ({ indexDigest, reason }))
    assert.deepEqual(denied, [{ indexDigest: DIGEST, reason: 'wrong' }])
  })
})

test('the profile of a layer is the union of what was read, in the order of the first reads, and goes with the layer', async () => {
  await inFolder(async (path, lock) => {
    using store = await MetadataStore.open(path, { lockFile: lock })
    const { layers, lazy } = store
    const diffId = parseDiffId(DIGEST)
    const indexDigest = parseDigest(`sha256:${'b'.repeat(64)}`)
    await lazy.addProfile(diffId, { indexDigest, spans: [1] })
    assert.equal(lazy.profileOf(diffId), undefined, 'its layer is not in the store')
    const layer = { data: 'complete', diffId, tarBytes: 7, summary: SUMMARY, createdAtMs: 8 } as const
    await layers.put(layer, [])
    await lazy.addProfile(diffId, { indexDigest, spans: [] })
    assert.equal(lazy.profileOf(diffId), undefined)
    await lazy.addProfile(diffId, { indexDigest, spans: [5, 3] })
    await lazy.addProfile(diffId, { indexDigest, spans: [3, 4, 5] })
    assert.deepEqual(lazy.profileOf(diffId), { indexDigest, spans: [5, 3, 4] })
    const many = Array.from({ length: 10_000 }, (_, index) => index)
    await lazy.addProfile(diffId, { indexDigest, spans: many })
    assert.equal(lazy.profileOf(diffId)?.spans.length, 4096)
    const other = parseDigest(`sha256:${'c'.repeat(64)}`)
    await lazy.addProfile(diffId, { indexDigest: other, spans: [9] })
    assert.deepEqual(lazy.profileOf(diffId), { indexDigest: other, spans: [9] })
    await layers.remove(diffId)
    assert.equal(lazy.profileOf(diffId), undefined)
  })
})

test('why an image was pulled eagerly is kept until it is pulled lazily or removed', async () => {
  await inFolder(async (path, lock) => {
    using store = await MetadataStore.open(path, { lockFile: lock })
    const digest = parseDigest(DIGEST)
    await store.lazy.putWhyEager(digest, 'nobody has an index')
    assert.equal(store.lazy.whyEager(digest), undefined, 'the image is not in the store')
    await store.images.put({ ...RECORD, digest }, [])
    await store.lazy.putWhyEager(digest, 'nobody has an index')
    await store.lazy.putWhyEager(digest, 'it is not signed')
    assert.equal(store.lazy.whyEager(digest), 'it is not signed')
    await store.lazy.putWhyEager(digest, undefined)
    assert.equal(store.lazy.whyEager(digest), undefined)
    await store.lazy.putWhyEager(digest, 'it is not signed')
    await store.images.removeAll(() => [{ digest }])
    assert.equal(store.lazy.whyEager(digest), undefined)
  })
})

test('every migration of the tables has a test', () => {
  assert.equal(ROWS.length, MIGRATIONS.length - 1)
})

test('a migration that fails leaves the tables as they were', async () => {
  await inFolder(async (path, lock) => {
    {
      using old = new DatabaseSync(path)
      old.exec(`${MIGRATIONS[0]}; CREATE TABLE snapshots (other TEXT); PRAGMA user_version = 1`)
    }
    await assert.rejects(MetadataStore.open(path, { lockFile: lock }))
    using after = new DatabaseSync(path)
    assert.equal(after.prepare('PRAGMA user_version').get()?.['user_version'], 1)
    assert.ok(!JSON.stringify(columnsOf(after)).includes('volume_target'))
  })
})

test('tables of a later version are refused and left as they are', async () => {
  await inFolder(async (path, lock) => {
    {
      using later = new DatabaseSync(path)
      later.exec(
        `PRAGMA journal_mode=WAL; CREATE TABLE news (x); PRAGMA user_version = ${MIGRATIONS.length + 1}`,
      )
    }
    const before = readFileSync(path)
    await assert.rejects(MetadataStore.open(path, { lockFile: lock }), (error) =>
      isLoamError(error, 'STORE_FORMAT'),
    )
    assert.deepEqual(readFileSync(path), before)
    assert.deepEqual(readdirSync(dirname(path)).toSorted(), ['lock', 'metadata.db'])
  })
})

test('an open database keeps its locks, so that the next process cannot remove its shared memory', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-metadata-'))
  try {
    const path = join(folder, 'metadata.db')
    // The kernel releases all of a process's locks on a file with the first descriptor of it that is closed, whichever took them.
    using _first = await MetadataStore.open(path, { lockFile: join(folder, 'lock') })
    using _second = await MetadataStore.open(path, { lockFile: join(folder, 'lock') })
    const { ino } = statSync(`${path}-shm`)
    const held = readFileSync('/proc/locks', 'utf8')
      .split('\n')
      .filter((line) => line.includes(` ${process.pid} `) && line.includes(`:${ino} `))
    // SQLite: "deadman switch" of each process that has the shared memory open, at byte 128.
    assert.ok(
      held.some((line) => / POSIX .* READ .* 128 128$/.test(line)),
      held.join('\n'),
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('a database that cannot be opened says why, also where SQLite does not', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-metadata-'))
  try {
    const long = join(folder, ...Array.from({ length: 5 }, () => 'x'.repeat(100)))
    mkdirSync(long, { recursive: true })
    await assert.rejects(
      MetadataStore.open(join(long, 'metadata.db'), { lockFile: join(folder, 'lock') }),
      (error) => isLoamError(error, 'USAGE') && error.message.includes('the path has more than 504 bytes'),
    )
    const path = join(folder, 'metadata.db')
    const own = join(import.meta.dirname, 'index.ts')
    const line = `const { MetadataStore } = await import(${JSON.stringify(own)}); await MetadataStore.open(${JSON.stringify(path)}, { lockFile: ${JSON.stringify(join(folder, 'lock'))} })`
    const script = 'ulimit -f 16; exec "$0" --input-type=module --eval "$1"'
    const { stderr } = spawnSync('sh', ['-c', script, process.execPath, line], { encoding: 'utf8' })
    assert.match(stderr, /code: 'SYSTEM'/)
    assert.match(stderr, /use .*metadata\.db: EFBIG/)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
