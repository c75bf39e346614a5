import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { storePaths } from './store-paths.ts'
import { upgradeStoreFiles } from './store-upgrade.ts'

test('the directories of a stack of an earlier store get their current names, also when the upgrade runs twice', () => {
  const root = mkdtempSync(join(tmpdir(), 'loam-upgrade-'))
  try {
    const paths = storePaths(root)
    upgradeStoreFiles(paths, 9)
    const stack = join(paths.images, `sha256:${'a'.repeat(64)}`)
    for (const name of ['patch', 'whole']) mkdirSync(join(stack, name), { recursive: true })
    writeFileSync(join(stack, 'merged.erofs'), '')
    writeFileSync(join(stack, 'whole', 'file'), '')
    upgradeStoreFiles(paths, 10)
    assert.deepEqual(readdirSync(stack).toSorted(), ['merged.erofs', 'patch', 'whole'])
    for (let time = 0; time < 2; time++) {
      upgradeStoreFiles(paths, 9)
      assert.deepEqual(readdirSync(stack).toSorted(), ['fixup', 'flat', 'merged.erofs'])
      assert.ok(existsSync(join(stack, 'flat', 'file')))
    }
  } finally {
    rmSync(root, { recursive: true })
  }
})
