// What a command says on a machine whose /proc is not mounted.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

test('without /proc a command says that it is not mounted, for a new store and for one that exists', () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-proc-'))
  const program = join(import.meta.dirname, '../../bin/loam.cjs')
  const own = [
    process.execPath,
    program,
    '--root',
    join(folder, 'root'),
    '--state',
    join(folder, 'state'),
    'ps',
  ]
  const call = (before: string) => {
    const script = `${before}; exec "$@"`
    const words = ['--mount', '--propagation', 'private', 'sh', '-c', script, 'sh', ...own]
    return spawnSync('unshare', words, { encoding: 'utf8' })
  }
  const check = () => {
    const { status, stderr } = call('umount -l /proc')
    assert.equal(status, 1)
    assert.match(
      stderr,
      /^loam: open store .*: \/proc is not mounted\nhint: Mount it: mount -t proc proc \/proc\n$/,
    )
  }
  try {
    check()
    assert.equal(call('true').status, 0)
    check()
  } finally {
    rmSync(folder, { recursive: true })
  }
})
