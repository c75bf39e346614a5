import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { diskUsage } from '../linux/index.ts'
import { Threads } from './threads.ts'
import { occupyThread } from '../../test/support/busy-thread.ts'

let folder = ''
let large = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'loam-measures-'))
  large = join(folder, 'large')
  mkdirSync(large)
  for (let at = 0; at < 100; at++) writeFileSync(join(large, `${at}`), '')
})
afterEach(() => {
  rmSync(folder, { recursive: true })
})

/** Keeps the thread of volumes busy until the returned function is called. */
function occupy({ volumeMeasurer }: Threads): () => Promise<void> {
  return occupyThread(volumeMeasurer, folder).free
}

test('a large volume is walked once for all that ask at a time, and its measure is kept for the next', async () => {
  await using threads = new Threads()
  const free = occupy(threads)
  const calls = Array.from({ length: 5 }, async () => threads.volumeMeasures.of(large, undefined))
  const waiting = threads.volumeMeasurer.load.waiting
  assert.deepEqual([waiting, threads.measurer.load], [1, { busy: 0, waiting: 0 }])
  await free()
  assert.deepEqual(
    (await Promise.all(calls)).map(({ inodes }) => inodes),
    [101, 101, 101, 101, 101],
  )
  writeFileSync(join(large, 'more'), '')
  assert.equal((await threads.volumeMeasures.of(large, undefined)).inodes, 101)
})

test('a walk goes on while one caller waits for it, and ends with the last one', async () => {
  await using threads = new Threads()
  const free = occupy(threads)
  const [first, second] = [new AbortController(), new AbortController()]
  const calls = [first, second].map(async ({ signal }) => threads.volumeMeasures.of(large, signal))
  const ended = calls.map(async (call) => assert.rejects(call, { code: 'CANCELED' }))
  first.abort()
  await ended[0]
  assert.equal(threads.volumeMeasurer.load.waiting, 1)
  second.abort()
  await ended[1]
  assert.equal(threads.volumeMeasurer.load.waiting, 0)
  await free()
  assert.equal((await threads.volumeMeasures.of(large, undefined)).inodes, 101)
})

test('a canceled walk ends in the middle of a directory', async () => {
  let entries = 0
  const walk = () =>
    diskUsage(large, {
      check: () => {
        if (++entries === 5) throw new Error('canceled')
      },
    })
  assert.throws(walk, /canceled/)
  assert.equal(entries, 5)
})
