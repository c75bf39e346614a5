import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'

const folder = mkdtempSync(join(tmpdir(), 'loam-memory-'))
after(() => {
  rmSync(folder, { recursive: true })
})

/** Runs a script where nothing limits core dumps. */
function run(script: string): { signal: NodeJS.Signals | null; stdout: string; stderr: string } {
  const imports = `import { protectMemory, libc } from ${JSON.stringify(import.meta.resolve('./index.ts'))};`
  const args = ['--input-type=module', '-e', imports + script]
  return spawnSync('/bin/sh', ['-c', 'ulimit -c unlimited && exec "$@"', 'sh', process.execPath, ...args], {
    cwd: folder,
    encoding: 'utf8',
  })
}

const PR_GET_DUMPABLE = 3

test('a protected process leaves no core dump when it crashes', () => {
  const ask = `console.log(libc().prctl(${PR_GET_DUMPABLE}, 0, 0, 0, 0));`
  const { stdout, signal } = run(`protectMemory(); ${ask} process.kill(process.pid, 'SIGSEGV')`)
  assert.deepEqual({ stdout, signal }, { stdout: '0\n', signal: 'SIGSEGV' })
  assert.deepEqual(readdirSync(folder), [])
})

test('SIGUSR1 opens no debugger in a protected process', () => {
  const wait = "process.kill(process.pid, 'SIGUSR1'); setTimeout(() => console.log('on'), 300)"
  const { stdout, stderr } = run(`protectMemory(); ${wait}`)
  assert.deepEqual({ stdout, stderr }, { stdout: 'on\n', stderr: '' })
})

test('a child of a protected process may dump its core again, within its own limits', () => {
  const child = "import { spawnSync } from 'node:child_process'; "
  const kill = "spawnSync('/bin/sh', ['-c', 'ulimit -c; kill -SEGV $$'], { stdio: 'inherit' })"
  const { stdout } = run(`${child}protectMemory(); ${kill}`)
  assert.equal(stdout, 'unlimited\n')
  const pattern = readFileSync('/proc/sys/kernel/core_pattern', 'utf8').trim()
  // Elsewhere it goes to a program, or to another directory.
  if (/^[\w.%]+$/.test(pattern)) assert.notDeepEqual(readdirSync(folder), [])
  assert.ok(existsSync(folder))
})
