import assert from 'node:assert/strict'
import { once } from 'node:events'
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { buildImage, buildTar, writeOciLayout } from 'loamfs/testing'
import { buildExecutable } from '../../../../scripts/single-file/build.ts'

const folder = mkdtempSync(join(tmpdir(), 'loam-single-file-'))
const executable = join(folder, 'executable')
const settings = ['--root', join(folder, 'root'), '--state', join(folder, 'state')]
const env = { PATH: process.env['PATH'], HOME: folder }

function words(name: string, given: readonly string[]): string[] {
  return [`@${name}`, `/opt/${name}`, ...given.map((word) => `.${word}`)]
}

function loam(...given: readonly string[]) {
  const { stdout, stderr, status } = spawnSync(executable, words('loam', [...settings, ...given]), {
    encoding: 'utf8',
    env,
  })
  return { stdout: stdout.trim(), stderr, status }
}

before(async () => {
  await buildExecutable(executable)
  writeOciLayout(join(folder, 'layout'), {
    x: buildImage({ tars: [buildTar([{ name: 'hello', data: 'hi' }])] }),
  })
})

after(() => {
  rmSync(folder, { recursive: true })
})

test('the executable imports an image and exports it, with its own threads and binary', () => {
  assert.equal(loam('put', `oci:${folder}/layout:x`, 'example.test/x:1').status, 0)
  const { stderr, status } = loam('export', '--format', 'erofs', 'example.test/x:1', join(folder, 'disk'))
  assert.equal(status, 0, stderr)
})

test('the daemon in the executable runs commands, and serves its page', async () => {
  const daemon = spawn(executable, words('loamd', [...settings, '--grpc-socket', join(folder, 'grpc')]), {
    env,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  try {
    await once(daemon.stderr, 'data')
    const { stdout } = loam('--daemon', 'require', 'images', '--json')
    assert.match(stdout, /example\.test\/x:1/)
    assert.match(loam('--daemon', 'require', 'ui').stdout, /^http:/m)
  } finally {
    daemon.kill()
    await once(daemon, 'exit')
  }
})

test('the executable refuses to start without the script that hides words from Node', () => {
  const { status, stderr } = spawnSync(executable, ['images'], { encoding: 'utf8', env })
  assert.equal(status, 2)
  assert.match(stderr, /is started by the script around it/)
})
