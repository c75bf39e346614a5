import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempDisposableSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { isLoamError } from '../errors/index.ts'
import { readListedProcess, readProcess } from './process-state.ts'

const MISSING = `time="2026-01-02T03:04:05Z" level=error msg="container does not exist"`

test('a process of which the runtime has only a directory has ended', async () => {
  using world = createWorld()
  assert.equal((await readProcess(world.paths, 'web')).status, 'none')
})

test('a process that another runtime has started is unknown in a list, and an error by itself', async () => {
  using world = createWorld()
  writeFileSync(join(world.paths.state, 'runtime/web/status'), '')
  await assert.rejects(
    readProcess(world.paths, 'web'),
    (error) => isLoamError(error, 'RUNTIME_FAILED') && !error.message.includes('level='),
  )
  assert.equal((await readListedProcess(world.paths, 'web')).status, 'unknown')
})

test('a detached process has ended when its monitor has written its output and its status, or was killed', async () => {
  using world = createWorld()
  const bundle = join(world.paths.state, 'bundles/web')
  rmSync(join(world.paths.state, 'runtime/web'), { recursive: true })
  mkdirSync(bundle, { recursive: true })
  const monitor = spawn('sh', ['-c', 'read x', 'loam-monitor', bundle])
  const files = { monitor: 'keep', began: `${monitor.pid}\n`, 'process.pid': '1' }
  for (const [name, text] of Object.entries(files)) writeFileSync(join(bundle, name), text)
  const stateOf = async () => {
    const { status, pid, exitStatus } = await readProcess(world.paths, 'web')
    return [status, pid, exitStatus]
  }
  while (!readFileSync(`/proc/${monitor.pid}/cmdline`, 'utf8').includes(bundle)) await setImmediate()
  assert.deepEqual(await stateOf(), ['running', undefined, undefined])
  monitor.kill('SIGKILL')
  await once(monitor, 'exit')
  assert.deepEqual(await stateOf(), ['exited', undefined, undefined])
  writeFileSync(join(bundle, 'exit.new'), '7\n')
  assert.deepEqual(await stateOf(), ['exited', undefined, 7])
  writeFileSync(join(bundle, 'exit'), '3\n')
  assert.deepEqual(await stateOf(), ['exited', undefined, 3])
})

function createWorld() {
  const directory = mkdtempDisposableSync(join(tmpdir(), 'loam-state-'))
  mkdirSync(join(directory.path, 'runtime/web'), { recursive: true })
  const runtime = join(directory.path, 'program')
  writeFileSync(runtime, `#!/bin/sh\necho '${MISSING}' >&2\nexit 1\n`, { mode: 0o755 })
  return {
    paths: { state: directory.path, runtime, env: process.env },
    [Symbol.dispose]: () => {
      directory.remove()
    },
  }
}
