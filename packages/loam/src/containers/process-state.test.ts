import assert from 'node:assert/strict'
import { mkdirSync, mkdtempDisposableSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
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
