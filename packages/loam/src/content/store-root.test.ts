import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { openStoreRoot } from './store-root.ts'

test('a directory is made a store with a state directory in it, and not with the file of another program', () => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-root-')))
  try {
    for (const [index, state] of ['state', 'run/loam'].entries()) {
      const root = join(folder, String(index))
      mkdirSync(join(root, state), { recursive: true })
      writeFileSync(join(root, state, 'namespace'), '{}')
      writeFileSync(join(root, 'foreign'), '')
      assert.throws(() => openStoreRoot(root, join(root, state)), { code: 'STORE_FORMAT' }, state)
      rmSync(join(root, 'foreign'))
      openStoreRoot(root, join(root, state))
      assert.ok(existsSync(join(root, 'format')), state)
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
})
