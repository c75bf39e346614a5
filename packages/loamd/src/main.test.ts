import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const PROGRAM = fileURLToPath(new URL('../bin/loamd.js', import.meta.url))

test('a word of the command line of loamd that is not UTF-8 is refused', () => {
  const script = 'exec "$0" --root "/nowhere/caf$(printf \'\\351\')"'
  const { status, stderr } = spawnSync('sh', ['-c', script, PROGRAM], { encoding: 'utf8' })
  assert.equal(status, 1)
  assert.match(stderr, /^loamd: read the argument .*: it is not UTF-8$/m)
})
