import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { spawnProcess } from './spawned-process.ts'

test('the output of a process that ends before it is found is kept', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-spawned-'))
  t.after(() => {
    rmSync(folder, { recursive: true })
  })
  const pidFile = join(folder, 'pid')
  const script = `echo output; echo message >&2; sleep 0.2; echo $$ > ${pidFile}; exit 3`
  const spawned = await spawnProcess({}, async ({ start }) => {
    const status = start(
      { file: '/bin/sh', args: ['-c', script], env: {} },
      { id: 'c1', keep: false, pidFile },
    )
    // The thread is busy until the process has ended.
    setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000))
    return (await status) ?? -1
  })
  // A caller may also be late.
  assert.equal(await spawned.wait(), 3)
  assert.deepEqual([await text(spawned.stdout), await text(spawned.stderr)], ['output\n', 'message\n'])
})
