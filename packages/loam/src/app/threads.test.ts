import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Activity } from '../activity/index.ts'
import { readConfiguration } from '../config/index.ts'
import { openStoreRoot } from '../content/index.ts'
import { buildImage, buildTar, writeOciLayout } from '../testing/index.ts'
import { openLoam } from './loam.ts'
import { openMetadata } from '../metadata/index.ts'
import { Wiring } from './wiring.ts'
import { occupyThread } from '../../test/support/busy-thread.ts'

async function inFolder(act: (folder: string) => Promise<void>): Promise<void> {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-threads-')))
  try {
    await act(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

test('a snapshot is committed while a large directory is measured', async () => {
  await inFolder(async (folder) => {
    const flags = { root: join(folder, 'store'), state: join(folder, 'state') }
    const configuration = readConfiguration({ flags, file: null })
    const paths = openStoreRoot(configuration.values.root)
    const metadata = await openMetadata(paths, undefined)
    const activity = new Activity()
    await using parts = new Wiring({ configuration, paths, metadata, env: {}, cwd: '', activity })
    const snapshotter = parts.makeSnapshotter()
    await snapshotter.prepare('key', '')
    const measuring = occupyThread(parts.threads.measurer, folder)
    const committing = snapshotter.commit({ name: 'base', key: 'key' })
    const isFirst = await Promise.race([
      committing.then(() => true),
      measuring.task.then(() => false),
      new Promise<false>((resolve) => setTimeout(resolve, 120_000, false).unref()),
    ])
    await Promise.all([committing, measuring.free()])
    assert.ok(isFirst)
  })
})

test('callers with limits of their own use the threads of the store that is open', async () => {
  await inFolder(async (folder) => {
    const flags = { root: join(folder, 'store'), state: join(folder, 'state') }
    await using loam = await openLoam({ flags })
    writeOciLayout(join(folder, 'layout'), {
      x: buildImage({ tars: [buildTar([{ name: 'a', data: 'a' }])] }),
    })
    const use = async (limit: number) => {
      const limited = { ...flags, limit_layer_bytes: `${limit << 20}` }
      const caller = await loam.forCaller({ flags: limited })
      assert.equal(caller.store.configuration.values.limit_layer_bytes, limit << 20)
      await caller.pull(`oci:${folder}/layout:x`)
      await caller.store.fsck({ repair: false })
      return caller
    }
    const first = await use(1)
    const threads = () => readdirSync('/proc/self/task').length
    const before = threads()
    const others = await Promise.all(Array.from({ length: 8 }, async (_, at) => use(at + 2)))
    const after = threads()
    for (const caller of [first, ...others]) await caller[Symbol.asyncDispose]()
    assert.ok(after - before <= 4, `${before} threads became ${after}`)
    await loam.pull(`oci:${folder}/layout:x`)
  })
})
