import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const PROGRAM = fileURLToPath(new URL('../bin/loamd.js', import.meta.url))

test('a word of the command line of loamd that is not UTF-8 is refused', () => {
  const script = 'exec "$0" --root "/nowhere/caf$(printf \'\\351\')"'
  const { status, stderr } = spawnSync('sh', ['-c', script, PROGRAM], { encoding: 'utf8' })
  assert.equal(status, 1)
  assert.match(stderr, /^loamd: read the argument .*: it is not UTF-8$/m)
})

test('loam and loamd refuse the same variables that are not UTF-8', () => {
  const usedBy = (path: string) =>
    /^const USED =\s*(.*)$/m.exec(readFileSync(new URL(path, import.meta.url), 'utf8'))?.[1]
  const used = usedBy('./main.ts')
  assert.ok(used !== undefined)
  assert.equal(used, usedBy('../../loam/bin/broken-text.cjs'))
})

test('output of loamd that cannot be written is an error without a stack trace, and one without a reader ends it', () => {
  const run = (command: string, script: string) =>
    spawnSync('sh', ['-c', script.replace('COMMAND', `"$0" ${command}; echo "status $?" >&2`), PROGRAM], {
      encoding: 'utf8',
    }).stderr
  for (const command of ['--version', '--help', 'install --print', 'configure docker --print']) {
    assert.match(
      run(command, '{ COMMAND; } >/dev/full'),
      /^loamd: write standard output: no space left \(.*\)\nhint: .*\nstatus 1\n$/,
      command,
    )
  }
  // The reader ends before anything is written.
  assert.equal(run('--help', "trap '' PIPE; { sleep 0.3; COMMAND; } | true"), 'status 141\n')
})
