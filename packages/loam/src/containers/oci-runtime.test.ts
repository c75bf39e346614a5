import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { messageOfRuntime, removeRuntimeContainer, runBundle } from './oci-runtime.ts'

const folder = mkdtempSync(join(tmpdir(), 'loam-run-'))
after(() => {
  rmSync(folder, { recursive: true })
})

test('a runtime gets no secret of the environment, when it runs a container and when it removes one', async () => {
  const runtime = join(folder, 'runtime')
  writeFileSync(runtime, `#!/bin/sh\nenv >> ${folder}/env\n[ "$7" != run ] || echo $$ > "$9"\n`, {
    mode: 0o755,
  })
  const place = {
    state: join(folder, 'state'),
    runtime,
    env: { PATH: process.env['PATH'], HOME: '/root', TOKEN: 'secret', LOAM_DOCKER_CONFIG: 'secret' },
  }
  mkdirSync(join(place.state, 'bundles/a'), { recursive: true })
  process.env['LOAM_TEST_SECRET'] = 'secret'
  try {
    assert.equal(await runBundle(place, { id: 'a', keep: false }), 0)
    mkdirSync(join(place.state, 'runtime', 'a'), { recursive: true })
    await removeRuntimeContainer(place, 'a')
  } finally {
    delete process.env['LOAM_TEST_SECRET']
  }
  const seen = readFileSync(join(folder, 'env'), 'utf8')
  assert.equal(seen.match(/^HOME=\/root$/gm)?.length, 2)
  assert.doesNotMatch(seen, /secret/)
})

test('a runtime that does not support the requested confinement fails with a hint', async () => {
  const runtime = join(folder, 'plain-runtime')
  const place = { state: join(folder, 'plain-state'), runtime, env: { PATH: process.env['PATH'] } }
  for (const [message, hint] of [
    ['seccomp: config provided but seccomp not supported', /--security-opt seccomp=unconfined$/],
    ['cannot set pids limit: container could not join or create cgroup', /--pids-limit -1$/],
    ['something else', /^undefined$/],
  ] as const) {
    const line = JSON.stringify({ level: 'error', msg: message })
    writeFileSync(runtime, `#!/bin/sh\necho '${line}' > $4\nexit 1\n`, { mode: 0o755 })
    mkdirSync(join(place.state, 'bundles/c'), { recursive: true })
    await assert.rejects(
      runBundle(place, { id: 'c', keep: false }),
      (error) => isLoamError(error, 'RUNTIME_FAILED') && hint.test(`${error.hint}`),
    )
    rmSync(place.state, { recursive: true })
  }
})

test('a runtime that ends without the process fails, with whatever status, also beside the number of an earlier process', async () => {
  const runtime = join(folder, 'dying-runtime')
  const place = { state: join(folder, 'dying-state'), runtime, env: { PATH: process.env['PATH'] } }
  mkdirSync(join(place.state, 'bundles/d'), { recursive: true })
  for (const [line, status] of [
    ['exit 0', 0],
    ['exit 1', 1],
    ['kill -9 $$', 137],
  ] as const) {
    writeFileSync(runtime, `#!/bin/sh\n${line}\n`, { mode: 0o755 })
    writeFileSync(join(place.state, 'bundles/d/started.pid'), '1')
    await assert.rejects(
      runBundle(place, { id: 'd', keep: true }),
      (error) =>
        isLoamError(error, 'RUNTIME_FAILED') && error.message.includes(`(it ended with status ${status})`),
    )
  }
})

test('a container that was destroyed while it ran has the status of its process', async () => {
  const runtime = join(folder, 'destroyed-runtime')
  const place = { state: join(folder, 'destroyed-state'), runtime, env: { PATH: process.env['PATH'] } }
  mkdirSync(join(place.state, 'bundles/e'), { recursive: true })
  writeFileSync(runtime, '#!/bin/sh\nrm -r "${11}"\nexit 137\n', { mode: 0o755 })
  assert.equal(await runBundle(place, { id: 'e', keep: true }), 137)
})

test('the message of a runtime is shown without its log line', () => {
  assert.equal(
    messageOfRuntime(
      'time="2026-01-02T03:04:05Z" level=error msg="open \\"x\\": container does not exist"\n',
    ),
    'open "x": container does not exist',
  )
  assert.equal(messageOfRuntime('2026-01-02T03:04:05.123456Z: no such file\n'), 'no such file')
})
