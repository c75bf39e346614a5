import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { digestOf, parseDiffId } from '../image/index.ts'
import { buildTar } from '../testing/index.ts'
import { DEFAULT_LAYER_LIMITS } from '../tree/index.ts'
import { occupyThread } from '../../test/support/busy-thread.ts'
import { rounds } from '../../test/support/rounds.ts'
import { WorkerPool } from './worker-pool.ts'

/** Closes pools, each while the answer of its task is on the way. Status 13 is that of a process with nothing to do before its end. */
const PROGRAM = `
  const [pool, folder] = process.argv.slice(2)
  const { WorkerPool } = await import(pool)
  for (let round = 0; round < 4; round += 1) {
    const workers = new WorkerPool(1)
    await workers.run({ kind: 'measure', folder })
    const task = workers.run({ kind: 'measure', folder }).catch(() => undefined)
    await new Promise(setImmediate)
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200)
    await workers[Symbol.asyncDispose]()
    await task
  }
`

test('a process whose last work is to close a pool waits until it is closed', () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-pool-'))
  try {
    const pool = new URL('worker-pool.ts', import.meta.url).href
    const program = join(folder, 'program.mjs')
    writeFileSync(program, PROGRAM)
    const { status, stderr } = spawnSync(process.execPath, [program, pool, folder], { encoding: 'utf8' })
    assert.equal(status, 0, stderr)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('a task tells its caller how many bytes it has read, and of how many', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-bytes-'))
  await using pool = new WorkerPool(1)
  try {
    const told = Promise.withResolvers<[number, number | undefined]>()
    const copying = occupyThread(pool, folder, (...bytes) => {
      told.resolve(bytes)
    })
    await copying.readChunk()
    assert.deepEqual(await told.promise, [1 << 20, 2 << 20])
    await copying.free()
  } finally {
    rmSync(folder, { recursive: true })
  }
})

/** Gives a tar to a thread as the blob of a layer, and returns the digest that the thread has calculated. */
async function ingest(
  pool: WorkerPool,
  tar: Buffer,
  source: () => AsyncIterable<Buffer>,
  onProgress?: (consumedBytes: number) => void,
): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'loam-chunks-'))
  const digest = digestOf(tar)
  const task = {
    kind: 'ingest',
    blob: { digest, sizeBytes: tar.length },
    diffId: parseDiffId(digest),
    directory: join(folder, 'layer'),
    unpack: false,
    syncEarly: false,
    lazyIndex: false,
    limits: DEFAULT_LAYER_LIMITS,
  } as const
  try {
    const { diffId } = await pool.run(task, { source, onProgress })
    return diffId
  } finally {
    rmSync(folder, { recursive: true })
  }
}

const TAR = buildTar([{ name: 'f', data: Buffer.alloc(700_000, 'all that a thread gets of a source. ') }])

test('a thread gets the chunks of a source whole and in order, whatever their size, memory and time', async () => {
  await using pool = new WorkerPool(1)
  const chunk = fc.record({
    bytes: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 1, max: 300_000 })),
    memory: fc.constantFrom('own', 'end of own', 'shared'),
    pause: fc.constantFrom('none', 'turn', 'timer'),
  })
  const check = async (chunks: readonly { bytes: number; memory: string; pause: string }[]) => {
    async function* source(): AsyncGenerator<Buffer> {
      // Memory whose end is never given away.
      const shared = Buffer.concat([TAR, Buffer.alloc(1)])
      let at = 0
      for (const { bytes, memory, pause } of chunks) {
        const part = shared.subarray(at, Math.min(at + bytes, TAR.length))
        at += part.length
        if (memory === 'shared') yield part
        else {
          const own = Buffer.allocUnsafeSlow(part.length + (memory === 'own' ? 0 : 100))
          part.copy(own, own.length - part.length)
          yield own.subarray(own.length - part.length)
        }
        if (pause === 'turn') await new Promise(setImmediate)
        else if (pause === 'timer') await new Promise((resolve) => setTimeout(resolve, 1))
      }
      yield shared.subarray(at, TAR.length)
    }
    assert.equal(await ingest(pool, TAR, source), digestOf(TAR))
  }
  await fc.assert(fc.asyncProperty(fc.array(chunk, { maxLength: 20 }), check), { numRuns: rounds(60, 15) })
})

test('a thread works on the chunks of a source that sends nothing more for the time being', async () => {
  await using pool = new WorkerPool(1)
  const worked = Promise.withResolvers<void>()
  async function* source(): AsyncGenerator<Buffer> {
    yield Buffer.from(TAR.subarray(0, 600_000))
    await worked.promise
    yield Buffer.from(TAR.subarray(600_000))
  }
  assert.equal(
    await ingest(pool, TAR, source, () => {
      worked.resolve()
    }),
    digestOf(TAR),
  )
})
