import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

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
