import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isErrno, isLoamError } from '../errors/index.ts'
import { requireOwnRights, withFileRights } from './file-rights.ts'
import { readInput } from './regular-file.ts'

const CALLER = { userId: 61_234, groupIds: [61_234, 61_235] }
const skip = process.getuid?.() !== 0 && 'only root takes the rights of others'

test('a file is read with the rights of the caller that named it, and with those of this process afterwards', {
  skip,
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-rights-'))
  try {
    chmodSync(folder, 0o755)
    const secret = join(folder, 'secret')
    writeFileSync(secret, 'x', { mode: 0o600 })
    await withFileRights(CALLER, [{ path: '/nowhere', followsLinks: true }], async () => {
      assert.throws(
        () => readInput(secret, 9),
        (error) => isErrno(error, 'EACCES'),
      )
      await Promise.resolve()
      assert.throws(
        () => readInput(secret, 9),
        (error) => isErrno(error, 'EACCES'),
      )
      // What is the store's own.
      assert.equal(readFileSync(secret, 'utf8'), 'x')
      assert.throws(
        () => {
          requireOwnRights(folder)
        },
        (error) => isLoamError(error, 'SOURCE_INVALID'),
      )
    })
    await withFileRights(CALLER, [{ path: folder, followsLinks: false }], async () => {
      assert.equal(readInput(secret, 9).toString(), 'x')
      requireOwnRights(folder)
    })
    assert.equal(readInput(secret, 9).toString(), 'x')
    assert.match(readFileSync('/proc/thread-self/status', 'utf8'), /^Uid:\t0\t0\t0\t0$/m)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('a symlink in a directory of this process is followed only where neither images nor containers write', {
  skip,
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-links-'))
  try {
    const [store, mirror] = [join(folder, 'store'), join(folder, 'mirror')]
    mkdirSync(join(folder, 'secrets'), { mode: 0o700 })
    writeFileSync(join(folder, 'secrets', 'file'), 'x', { mode: 0o600 })
    for (const place of [store, mirror]) {
      mkdirSync(place, { mode: 0o700 })
      symlinkSync(join(folder, 'secrets', 'file'), join(place, 'file'))
      symlinkSync(join(folder, 'secrets'), join(place, 'folder'))
    }
    symlinkSync(store, join(folder, 'link'))
    writeFileSync(join(store, 'own'), 'y', { mode: 0o600 })
    const own = [
      { path: mirror, followsLinks: true },
      { path: join(folder, 'link'), followsLinks: false },
      { path: store, followsLinks: false },
    ]
    await withFileRights(CALLER, own, async () => {
      for (const path of [join(store, 'file'), join(store, 'folder', 'file')])
        assert.throws(
          () => readInput(path, 9),
          (error) => isLoamError(error, 'SOURCE_INVALID') && error.message.includes('symlink'),
        )
      assert.throws(
        () => {
          requireOwnRights(join(store, 'folder'))
        },
        (error) => isLoamError(error, 'SOURCE_INVALID'),
      )
      assert.equal(readInput(join(mirror, 'file'), 9).toString(), 'x')
      // The path of the store itself may have symlinks.
      assert.equal(readInput(join(folder, 'link', 'own'), 9).toString(), 'y')
    })
  } finally {
    rmSync(folder, { recursive: true })
  }
})
