import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
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
    const path = join(folder, 'pipe')
    execFileSync('mkfifo', [path])
    const seen: number[] = []
    const told = Promise.withResolvers<void>()
    const hashing = pool.run(
      { kind: 'hash', path, algorithm: 'sha256' },
      {
        onBytes: (doneBytes) => {
          seen.push(doneBytes)
          told.resolve()
        },
      },
    )
    const writer = await open(path, 'w')
    await writer.write('12345')
    await told.promise
    await writer.close()
    await hashing
    assert.deepEqual(seen, [5])
  } finally {
    rmSync(folder, { recursive: true })
  }
})
