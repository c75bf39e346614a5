import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
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
    await withFileRights(CALLER, ['/nowhere'], async () => {
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
    await withFileRights(CALLER, [folder], async () => {
      assert.equal(readInput(secret, 9).toString(), 'x')
      requireOwnRights(folder)
    })
    assert.equal(readInput(secret, 9).toString(), 'x')
    assert.match(readFileSync('/proc/thread-self/status', 'utf8'), /^Uid:\t0\t0\t0\t0$/m)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
