import assert from 'node:assert/strict'
import { chmodSync, closeSync, mkdirSync, mkdtempDisposableSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { openDirectory } from './directory.ts'
import { FileStat } from './file-stat.ts'
import { isWithin } from './is-within.ts'

test('a directory is within itself, its parents and the root, and within no other', () => {
  using directory = mkdtempDisposableSync(join(tmpdir(), 'loam-within-'))
  const at = (name: string) => join(directory.path, name)
  for (const name of ['a/b/c', 'd']) mkdirSync(at(name), { recursive: true })
  const is = (inner: string, outer: string) => {
    const fds = [openDirectory(inner), openDirectory(outer)] as const
    try {
      return isWithin(fds[0], FileStat.of(fds[1]))
    } finally {
      for (const fd of fds) closeSync(fd)
    }
  }
  const inner = at('a/b')
  assert.deepEqual(
    [inner, at('a'), directory.path, '/', at('d'), at('a/b/c')].map((outer) => is(inner, outer)),
    [true, true, true, true, false, false],
  )
})

const IS_ROOT = process.geteuid?.() === 0

test('parents need to be searchable, and need not be readable', { skip: !IS_ROOT }, () => {
  using directory = mkdtempDisposableSync(join(tmpdir(), 'loam-within-'))
  chmodSync(directory.path, 0o711)
  const inner = join(directory.path, 'inner')
  mkdirSync(inner, { mode: 0o755 })
  const [fd, outer] = [openDirectory(inner), openDirectory(tmpdir())]
  process.seteuid?.(65_534)
  try {
    assert.equal(isWithin(fd, FileStat.of(outer)), true)
  } finally {
    process.seteuid?.(0)
    for (const each of [fd, outer]) closeSync(each)
  }
})
