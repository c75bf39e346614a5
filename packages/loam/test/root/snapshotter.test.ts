// The snapshotter passes its suite.
import assert from 'node:assert/strict'
import { chownSync, existsSync, mkdtempSync, realpathSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { readConfiguration } from '../../src/app/index.ts'
import { Parts } from '../../src/app/parts.ts'
import { lockPath, openStoreRoot } from '../../src/content/index.ts'
import { MetadataStore } from '../../src/metadata/index.ts'
import { snapshotterConformance } from '../../src/testing/index.ts'

async function openParts(folder: string): Promise<Parts> {
  const flags = { root: join(folder, 'store'), state: join(folder, 'state') }
  const configuration = readConfiguration({ flags, file: null })
  const paths = openStoreRoot(configuration.values.root)
  const metadata = await MetadataStore.open(paths.database, lockPath(paths, 'metadata', 'open'))
  return new Parts({ configuration, paths, metadata, env: {} })
}

describe('snapshots', () => {
  test('one whose empty folder a power cut took is whole again', async () => {
    const folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-snapshots-')))
    try {
      await using parts = await openParts(folder)
      const snapshotter = parts.makeSnapshotter()
      await snapshotter.prepare('below', '')
      chownSync(join(parts.paths.snapshots, '1', 'fs'), 7, 8)
      await snapshotter.commit('base', 'below')
      const mounts = await snapshotter.prepare('key', 'base')
      rmSync(join(parts.paths.snapshots, '2'), { recursive: true })
      assert.deepEqual(await snapshotter.mounts('key'), mounts)
      const { uid, gid } = statSync(join(parts.paths.snapshots, '2', 'fs'))
      assert.deepEqual([uid, gid], [7, 8])
      assert.ok(existsSync(join(parts.paths.snapshots, '2', 'work')))
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  snapshotterConformance('loam', async () => {
    const folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-snapshots-')))
    const opened: Parts[] = []
    const open = async () => {
      const parts = await openParts(folder)
      opened.push(parts)
      return parts.makeSnapshotter()
    }
    return {
      snapshotter: await open(),
      reopen: open,
      [Symbol.asyncDispose]: async () => {
        for (const parts of opened) await parts[Symbol.asyncDispose]()
        rmSync(folder, { recursive: true })
      },
    }
  })
})
