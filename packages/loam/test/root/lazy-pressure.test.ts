// Partial layers while there are more reads than slots, too few descriptors, or too little memory.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { gunzipSync } from 'node:zlib'
import { digestOf } from '../../src/image/index.ts'
import { JOURNAL_SLOTS } from '../../src/lazy/journal.ts'
import { LazyStore, type LazyStoreOptions } from '../support/lazy-store.ts'
import { gather, must } from '../support/world.ts'

const SMALL: LazyStoreOptions = { files: 12, layers: 1, spanBytes: 64 << 10 }
const READS = 700

/** Keeps the requests for a blob unanswered, or for all. Returns what answers them, and all that come later. */
function hold(store: LazyStore, digest = ''): () => void {
  let isOpen = false
  const held: (() => void)[] = []
  store.registry.intercept = (request, response) => {
    if (isOpen || request.url?.includes(`/blobs/${digest}`) !== true) return false
    held.push(() => {
      store.registry.answer(request, response)
    })
    return true
  }
  return () => {
    isOpen = true
    for (const answer of held) answer()
  }
}

function placesIn(bytes: number): number[] {
  return Array.from({ length: READS }, (_, index) => Math.floor((index * (bytes - 16)) / READS))
}

/** Reads 16 bytes at many places of a file at once, in another process, which writes the digest of all. */
function readMany(path: string, bytes: number): ChildProcess {
  const script = `
    const fs = require('node:fs')
    const places = ${JSON.stringify(placesIn(bytes))}
    const fd = fs.openSync(${JSON.stringify(path)})
    const read = (at) => new Promise((resolve, reject) => {
      fs.read(fd, Buffer.alloc(16), 0, 16, at, (error, _count, data) => (error ? reject(error) : resolve(data)))
    })
    Promise.all(places.map(read)).then((parts) => {
      console.log('sha256:' + require('node:crypto').hash('sha256', Buffer.concat(parts)))
    })`
  return spawn(process.execPath, ['-e', script], {
    env: { ...process.env, UV_THREADPOOL_SIZE: String(READS) },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
}

/** Begins more reads than the handler takes at once, and waits until all of its slots are used. */
async function fillSlots(store: LazyStore): Promise<ChildProcess[]> {
  await store.client.serve(store.diffIds)
  const readers = [0, 1].map(() => readMany(store.tarPath(store.diffId), tarOf(store).length))
  while ((await waiting(store)) < JOURNAL_SLOTS) await sleep(50)
  return readers
}

function tarOf(store: LazyStore): Buffer {
  return gunzipSync(store.image.layers[0]?.bytes ?? Buffer.alloc(0))
}

async function waiting(store: LazyStore): Promise<number> {
  return (await store.status()).layers[0]?.waiting ?? 0
}

test('thousands of reads wait, more than the handler takes at once, and all are right in the end', async () => {
  await using store = await LazyStore.create(SMALL)
  const open = hold(store)
  const readers = await fillSlots(store)
  const outputs = readers.map(async (reader) => {
    const stdout = gather(reader.stdout ?? process.stdin)
    await once(reader, 'close')
    return stdout().trim()
  })
  open()
  const tar = tarOf(store)
  const expected = digestOf(Buffer.concat(placesIn(tar.length).map((at) => tar.subarray(at, at + 16))))
  for (const output of await Promise.all(outputs)) assert.equal(output, expected)
  const { counts, sumSeconds } = (await store.status()).waits
  assert.ok(counts.reduce((sum, count) => sum + count, 0) >= JOURNAL_SLOTS && sumSeconds > 0)
})

test('processes that are killed while they wait give their slots back, and others are served', async () => {
  await using store = await LazyStore.create(SMALL)
  const open = hold(store)
  for (const reader of await fillSlots(store)) {
    reader.kill('SIGKILL')
    await once(reader, 'close')
  }
  while ((await waiting(store)) > 0) await sleep(50)
  store.mountLayers()
  const reading = store.read()
  open()
  assert.deepEqual(store.compare(await reading), { wrong: [], failed: [] })
})

test('reads fail while the handler has no descriptor left for them, none is wrong, and all are right afterwards', async () => {
  await using store = await LazyStore.create({ ...SMALL, layers: 2 })
  const [, second] = store.image.layers
  const open = hold(store, second?.digest)
  await store.show()
  // Its threads have started then: without descriptors they could not.
  await store.client.complete(store.diffId)
  const { pid } = await store.status()
  const limit = (descriptors: number) => {
    must('prlimit', '--pid', String(pid), `--nofile=${descriptors}:16384`)
  }
  // What is open stays open, and no number below this is free.
  limit(3)
  const names = [...store.sums.keys()].filter((name) => name.startsWith('layer1'))
  const short = store.compare(await store.read(names.slice(0, 4)))
  // The handler looks after what it serves every five seconds.
  await sleep(6_000)
  limit(16_384)
  assert.deepEqual([short.wrong, short.failed.length], [[], 4])
  open()
  for (;;) {
    const { wrong, failed } = store.compare(await store.read())
    assert.deepEqual(wrong, [])
    if (failed.length === 0) break
    await sleep(200)
  }
  const status = await store.status()
  assert.deepEqual([status.pid, status.refused > 0], [pid, true], 'it was not restarted')
})

/** The hierarchy of version 1 of cgroups, which has limits of memory where version 2 has not taken them over. */
const MEMORY = '/sys/fs/cgroup/memory'
const JOIN = 'echo $$ > "$0/cgroup.procs" && exec "$@"'

test('readers and the handler are right with much less memory than there is data', {
  skip: !existsSync(`${MEMORY}/cgroup.procs`) && 'no memory cgroups of version 1',
}, async () => {
  const group = (name: string, bytes: number) => {
    const path = `${MEMORY}/loam-lazy-${process.pid}-${name}`
    mkdirSync(path)
    writeFileSync(`${path}/memory.limit_in_bytes`, String(bytes))
    return path
  }
  const groups = [group('readers', 8 << 20), group('handler', 32 << 20)] as const
  const [readers, handler] = groups
  try {
    await using store = await LazyStore.create({ files: 120 })
    const open = hold(store)
    await store.show()
    writeFileSync(`${handler}/cgroup.procs`, String((await store.status()).pid))
    open()
    const read = await store.read(undefined, ['sh', '-c', JOIN, readers])
    assert.deepEqual(store.compare(read), { wrong: [], failed: [] })
  } finally {
    for (const path of groups) rmdirSync(path)
  }
})
