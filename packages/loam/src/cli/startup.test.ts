import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const COMMAND = fileURLToPath(new URL('../../bin/loam.cjs', import.meta.url))
/** Modules of Node that only connections need; the last is loaded by an import of node:http. Together they take half as long as Node's own start. */
const FOR_CONNECTIONS = ['http', 'https', 'http2', 'tls', 'internal/deps/undici/undici']
const TELL = `process.on('exit', () => process.stdout.write(JSON.stringify(process.moduleLoadList)))`

test('a command that only reads the store loads no module for connections', () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-startup-'))
  try {
    const own = ['--root', join(folder, 'store'), '--state', join(folder, 'state'), '--daemon', 'never']
    const words = ['--import', `data:text/javascript,${TELL}`, COMMAND, 'images', '--quiet', ...own]
    const loaded = JSON.parse(execFileSync(process.execPath, words, { encoding: 'utf8' })) as string[]
    assert.ok(loaded.includes('NativeModule sqlite'), loaded.join())
    assert.deepEqual(
      FOR_CONNECTIONS.filter((name) => loaded.includes(`NativeModule ${name}`)),
      [],
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
})
