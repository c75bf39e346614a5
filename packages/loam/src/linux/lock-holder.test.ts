import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { FileLock } from './file-lock.ts'
import { findLockHolder, readHolder } from './lock-holder.ts'

test('the process that holds a lock is found, and none for a lock that is free', () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-lock-'))
  try {
    const path = join(folder, 'lock')
    const lock = FileLock.tryAcquire(path)
    assert.equal(findLockHolder(path), process.pid)
    lock?.release()
    assert.equal(findLockHolder(path), undefined)
    assert.equal(findLockHolder(join(folder, 'none')), undefined)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('of several holders of a lock the exclusive one is named, and none of another PID namespace', () => {
  const lines = ['1: FLOCK  ADVISORY  READ 11 08:01:5 0 EOF', '2: POSIX  ADVISORY  WRITE 12 08:01:5 0 EOF']
  assert.equal(readHolder([...lines, '3: FLOCK  ADVISORY  WRITE 13 fe:00:5 0 EOF'].join('\n'), 5), 13)
  assert.equal(readHolder(lines.join('\n'), 5), 11)
  assert.equal(readHolder('1: FLOCK  ADVISORY  WRITE 0 08:01:5 0 EOF', 5), undefined)
  assert.equal(readHolder('1: FLOCK  ADVISORY  WRITE 9 08:01:5 0 EOF', 6), undefined)
})
