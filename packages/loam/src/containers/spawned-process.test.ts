import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { type SpawnedProcess, spawnProcess } from './spawned-process.ts'

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

const ENDINGS: Record<string, (spawned: SpawnedProcess, controller: AbortController) => Promise<unknown>> = {
  'the end of its block': async (spawned) => spawned[Symbol.asyncDispose](),
  'its signal': async (spawned, controller) => {
    controller.abort()
    return spawned.wait()
  },
}
for (const [name, end] of Object.entries(ENDINGS)) {
  test(`a process whose output nobody reads is ended by ${name}`, { timeout: 60_000 }, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'loam-spawned-'))
    t.after(() => {
      rmSync(folder, { recursive: true })
    })
    const pidFile = join(folder, 'pid')
    const controller = new AbortController()
    const script = `echo $$ > ${pidFile}; exec head -c 1000000 /dev/zero`
    const spawned = await spawnProcess({ signal: controller.signal }, async ({ start }) => {
      const program = { file: '/bin/sh', args: ['-c', script], env: {} }
      return (await start(program, { id: 'c1', keep: false, pidFile })) ?? -1
    })
    await end(spawned, controller)
    assert.ok((await spawned.wait()) >= 0)
  })
}

const CAN_CHANGE_USER = process.geteuid?.() === 0 && spawnSync('setpriv', ['--version']).status === 0

test('a signal that may not be sent to the process does not end the program', {
  skip: !CAN_CHANGE_USER,
}, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-spawned-'))
  t.after(() => {
    rmSync(folder, { recursive: true })
  })
  const pidFile = join(folder, 'pid')
  const own = 'setpriv --reuid 1000 --clear-groups sh -c "echo ready; exec sleep 1000"'
  const controller = new AbortController()
  const { signal } = controller
  await using spawned = await spawnProcess({ signal }, async ({ start }) => {
    const args = ['-c', `echo $$ > ${pidFile}; exec ${own}`]
    const program = { file: '/bin/sh', args, env: { PATH: process.env['PATH'] ?? '' } }
    return (await start(program, { id: 'c1', keep: false, pidFile })) ?? -1
  })
  await once(spawned.stdout, 'data')
  process.seteuid?.(65_534)
  try {
    controller.abort()
  } finally {
    process.seteuid?.(0)
  }
  assert.equal(spawned.kill('SIGKILL'), true)
  assert.equal(await spawned.wait(), 128 + 9)
})
