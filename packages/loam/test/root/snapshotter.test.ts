// The snapshotter passes its suite.
import assert from 'node:assert/strict'
import { chownSync, existsSync, mkdtempSync, realpathSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { readConfiguration } from '../../src/config/index.ts'
import type { Wiring } from '../../src/app/wiring.ts'
import { snapshotterConformance } from '../../src/testing/index.ts'
import { openWiring } from '../support/open-wiring.ts'

describe('snapshots', () => {
  test('a snapshot whose empty directory a power cut removed is complete again', async () => {
    const folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-snapshots-')))
    try {
      await using parts = await openWiring(folder)
      const snapshotter = parts.makeSnapshotter()
      await snapshotter.prepare('below', '')
      chownSync(join(parts.paths.snapshots, '1', 'fs'), 7, 8)
      await snapshotter.commit({ name: 'base', key: 'below' })
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

  test("snapshots report their upper directories and have additional mount options if configured, as with containerd's overlayfs", async () => {
    const folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-snapshots-')))
    try {
      await using parts = await openWiring(folder, {
        upperdir_label: true,
        mount_options: 'volatile,index=off',
      })
      const snapshotter = parts.makeSnapshotter()
      const [bind] = await snapshotter.prepare('below', '', { own: 'label' })
      assert.deepEqual(bind?.options, ['rw', 'rbind'])
      const label = 'containerd.io/snapshot/overlay.upperdir'
      const upper = (id: number) => join(parts.paths.snapshots, String(id), 'fs')
      assert.deepEqual((await snapshotter.stat('below')).labels, { own: 'label', [label]: upper(1) })
      await snapshotter.commit({ name: 'base', key: 'below' })
      const [overlay] = await snapshotter.prepare('key', 'base')
      assert.ok(overlay?.options.includes(`upperdir=${upper(2)}`))
      assert.deepEqual(overlay?.options.slice(-2), ['volatile', 'index=off'])
      assert.equal(overlay?.options.filter((option) => option === 'index=off').length, 1)
      assert.equal((await snapshotter.update('key', { x: 'y' })).labels[label], upper(2))
      assert.deepEqual(
        (await Array.fromAsync(snapshotter.list())).map(({ labels }) => labels[label]),
        [upper(1), upper(2)],
      )
      assert.deepEqual(await Array.fromAsync(snapshotter.list([`labels."${label}"`])), [])
    } finally {
      rmSync(folder, { recursive: true })
    }
    const refused = [
      'lowerdir=/x',
      'upperdir=/x',
      'a b',
      'workdir=/',
      'index=on',
      'nfs_export=on',
      'userxattr',
    ]
    for (const options of refused)
      assert.throws(
        () => readConfiguration({ flags: { mount_options: options }, file: null }),
        /mount_options .* is not options of overlayfs/,
        options,
      )
  })

  test('a layer that a client of another namespace has unpacked is used, and not fetched once more', async () => {
    const folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-snapshots-')))
    try {
      await using parts = await openWiring(folder)
      let fetched = 0
      const snapshotter = parts.makeSnapshotter({
        admit: async () => {},
        fetch: async (_labels, below) => {
          // Undefined: on an unpacked layer there is nothing to fetch.
          if (below !== undefined) fetched += 1
          return undefined
        },
      })
      const ref = (layer: string) => ({ 'containerd.io/snapshot.ref': layer })
      await snapshotter.prepare('one/1/extract', '', ref('sha256:a'))
      await snapshotter.commit({ name: 'one/2/sha256:a', key: 'one/1/extract', labels: ref('sha256:a') })
      await snapshotter.prepare('one/3/extract', 'one/2/sha256:a', ref('sha256:b'))
      await snapshotter.commit({ name: 'one/4/sha256:b', key: 'one/3/extract', labels: ref('sha256:b') })
      assert.equal(fetched, 1)
      const isThere = { code: 'SNAPSHOT_EXISTS' }
      await assert.rejects(snapshotter.prepare('two/1/extract', '', ref('sha256:a')), isThere)
      await assert.rejects(snapshotter.prepare('two/2/extract', 'one/2/sha256:a', ref('sha256:b')), isThere)
      assert.equal(fetched, 1)
      // The same layer on another parent is another snapshot, and one that is still being unpacked is none.
      await snapshotter.prepare('two/3/extract', '', ref('sha256:b'))
      await snapshotter.prepare('two/4/extract', 'one/4/sha256:b', ref('sha256:c'))
      await snapshotter.prepare('two/5/extract', 'one/4/sha256:b', ref('sha256:c'))
      const [found] = await Array.fromAsync(
        snapshotter.list([`labels."containerd.io/snapshot.ref"==sha256:b,parent=="one/2/sha256:a"`]),
      )
      assert.equal(found?.name, 'one/4/sha256:b')
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  snapshotterConformance('loam', async () => {
    const folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-snapshots-')))
    const opened: Wiring[] = []
    const open = async () => {
      const parts = await openWiring(folder)
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
