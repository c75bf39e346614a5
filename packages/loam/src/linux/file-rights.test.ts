import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isErrno, isLoamError } from '../errors/index.ts'
import { requireOwnRights, withFileRights } from './file-rights.ts'
import { openInput, readInput } from './regular-file.ts'

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

test('a caller reads nothing by /proc that other processes, or this one, may read', { skip }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-proc-'))
  const hidden = join(folder, 'private', 'hidden')
  mkdirSync(hidden, { recursive: true })
  chmodSync(folder, 0o755)
  chmodSync(join(folder, 'private'), 0o700)
  writeFileSync(join(hidden, 'file'), 'x', { mode: 0o644 })
  const other = spawn('sleep', ['1000'], { cwd: hidden, stdio: 'ignore' })
  const own = openSync(join(hidden, 'file'), 'r')
  const capabilities = () => /^CapEff:.*$/m.exec(readFileSync('/proc/thread-self/status', 'utf8'))?.[0]
  const before = capabilities()
  try {
    await withFileRights(CALLER, [], async () => {
      await Promise.resolve()
      for (const path of [
        `/proc/${other.pid}/cwd/file`,
        `/proc/${other.pid}/environ`,
        `/proc/${other.pid}/maps`,
        '/proc/self/maps',
        `/proc/self/fd/${own}`,
        `/proc/${process.pid}/task/${process.pid}/fd/${own}`,
        `/proc/self/root${hidden}/file`,
      ]) {
        const isRefused = (error: unknown) => isErrno(error, 'EACCES') || isLoamError(error, 'SOURCE_INVALID')
        assert.throws(() => readInput(path, 1 << 20), isRefused, path)
        assert.throws(() => openInput(path), isRefused, path)
      }
      assert.equal(readInput('/dev/null', 9).length, 0)
    })
    assert.equal(capabilities(), before)
    assert.equal(readInput(`/proc/${other.pid}/cwd/file`, 9).toString(), 'x')
  } finally {
    closeSync(own)
    other.kill()
    rmSync(folder, { recursive: true })
  }
})
