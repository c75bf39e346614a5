import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { MetadataStore } from './index.ts'
import { MIGRATIONS } from './schema.ts'

const DIGEST = `sha256:${'a'.repeat(64)}`

test('tables of version 1 become those of today with all that is in them, and later ones are refused', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-metadata-'))
  try {
    const path = join(folder, 'metadata.db')
    {
      using old = new DatabaseSync(path)
      old.exec(`${MIGRATIONS[0]}; PRAGMA user_version = 1`)
      old.exec(`INSERT INTO images VALUES ('${DIGEST}', 't', '${DIGEST}', NULL, 'linux/amd64', 1, NULL, 2, 3);
        INSERT INTO containers VALUES ('c', NULL, 4);
        INSERT INTO rootfses VALUES ('u', 'c', 'ready', 'copy', 'r', '${DIGEST}', NULL, '/r', '/s', 0, 'b', 5)`)
    }
    {
      using store = await MetadataStore.open(path, join(folder, 'lock'))
      assert.equal(store.images.list()[0]?.type, 'docker')
      assert.deepEqual(
        store.containers.rootfses('c').map(({ uuid, volumeTarget }) => [uuid, volumeTarget]),
        [['u', undefined]],
      )
    }
    // Opened again there is nothing to do.
    {
      using again = await MetadataStore.open(path, join(folder, 'lock'))
      assert.equal(again.images.list().length, 1)
    }
    {
      using later = new DatabaseSync(path)
      later.exec(`PRAGMA user_version = ${MIGRATIONS.length + 1}`)
    }
    await assert.rejects(MetadataStore.open(path, join(folder, 'lock')), (error) =>
      isLoamError(error, 'STORE_FORMAT'),
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
})
