import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, existsSync, rmSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import {
  artifactPath,
  layerPath,
  lockPath,
  openStoreRoot,
  Removals,
  type StorePaths,
} from '../content/index.ts'
import { digestOf, parseChainId, parseDiffId } from '../image/index.ts'
import { FileLock } from '../linux/index.ts'
import { MetadataStore } from '../metadata/index.ts'
import { newArtifactRecord } from './artifact-record.ts'
import type { PartialLayers } from './partial-layers.ts'
import { pruneLayers } from './prune.ts'

const digest = digestOf(Buffer.from('layer'))
const diffId = parseDiffId(digest)
const BOOT = '00000000-0000-0000-0000-000000000001'
const SUMMARY = {
  entries: 1,
  fileBytes: 1,
  hasOpaqueRoot: false,
  hasImplicitDirectories: false,
  hasLowerLinks: false,
  hasZeroDevices: false,
  hasWhiteouts: false,
  root: undefined,
}

interface Store {
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  readonly prune: () => ReturnType<typeof pruneLayers>
}

async function withStore(act: (store: Store) => Promise<void>): Promise<void> {
  const root = mkdtempSync(join(tmpdir(), 'loam-prune-'))
  try {
    const paths = openStoreRoot(root)
    using metadata = await MetadataStore.open(paths.database, { lockFile: join(paths.locks, 'metadata') })
    const partial = { forget: async () => true } as unknown as PartialLayers
    const removals = new Removals()
    try {
      await act({
        paths,
        metadata,
        prune: async () => pruneLayers({ paths, metadata, removals, partial }, new Set()),
      })
    } finally {
      await removals.settle()
    }
  } finally {
    rmSync(root, { recursive: true })
  }
}

test('a prune that removes a layer leaves the locks of its artifacts to those who hold them', async () => {
  for (const kind of ['unpacked', 'meta']) {
    await withStore(async ({ paths, metadata, prune }) => {
      await metadata.layers.put(
        { diffId, tarBytes: 1, summary: SUMMARY, createdAtMs: 1, data: 'complete' },
        [],
      )
      mkdirSync(layerPath(paths, diffId))
      const path = lockPath(paths, kind, diffId)
      {
        using lock = FileLock.tryAcquire(path)
        assert.ok(lock !== undefined)
        assert.equal((await prune()).length, 1)
        assert.equal(FileLock.tryAcquire(path), undefined, 'nobody else has the lock while it is held')
      }
      await metadata.layers.put(
        { diffId, tarBytes: 1, summary: SUMMARY, createdAtMs: 1, data: 'complete' },
        [],
      )
      assert.equal((await prune()).length, 1)
      assert.ok(!existsSync(path), 'a free one goes with its layer')
    })
  }
})

test('an artifact that comes into use while a prune waits to write is kept', async () => {
  await withStore(async ({ paths, metadata, prune }) => {
    const chainId = parseChainId(digest)
    await metadata.layers.putArtifact(newArtifactRecord(chainId, 'merged', BOOT))
    mkdirSync(artifactPath(paths, chainId, 'merged'), { recursive: true })
    using other = new DatabaseSync(paths.database)
    other.exec('BEGIN IMMEDIATE')
    const pruned = prune()
    await setImmediate()
    other
      .prepare(
        `INSERT INTO images (digest, media_type, config_digest, chain_id, platform, size_bytes, pulled_at, used_at, type)
         VALUES (?, 'm', ?, ?, 'linux/amd64', 1, 1, 1, 'docker')`,
      )
      .run(digest, digest, chainId)
    other.exec('COMMIT')
    await pruned
    assert.notEqual(metadata.layers.findArtifact(chainId, 'merged'), undefined)
    assert.ok(existsSync(artifactPath(paths, chainId, 'merged')))
  })
})

test('only the exclusive holder of a lock can remove its file', async () => {
  await withStore(async ({ paths }) => {
    const path = lockPath(paths, 'layer', diffId)
    using shared = FileLock.tryAcquire(path, { shared: true })
    assert.throws(() => shared?.remove(), { code: 'INTERNAL' })
    shared?.release()
    const lock = FileLock.tryAcquire(path)
    lock?.remove()
    assert.ok(!existsSync(path))
    lock?.release()
    assert.throws(() => lock?.remove(), { code: 'INTERNAL' })
  })
})
