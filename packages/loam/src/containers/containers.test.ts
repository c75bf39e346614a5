import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { openLoam } from '../index.ts'

test('an invalid container ID is refused before anything is created for it, also by image volumes and recovery', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-id-'))
  try {
    await using loam = await openLoam({
      flags: { root: join(folder, 'store'), state: join(folder, 'state') },
      file: null,
      env: {},
    })
    const { containers } = loam
    const id = '../x'
    const sandbox = join(folder, 'sandbox')
    mkdirSync(sandbox)
    const volumes = [{ image: `oci:${folder}/none`, target: 'data' }]
    const refused = (error: unknown) => isLoamError(error, 'ID_INVALID')
    await assert.rejects(containers.provision(`oci:${folder}/none`, { id }), refused)
    await assert.rejects(containers.provisionVolumes(volumes, { id, sandbox }), refused)
    await assert.rejects(containers.destroy(id), refused)
    await assert.rejects(containers.recover({ known: [id] }), refused)
    assert.equal(await containers.find(id), undefined)
    assert.deepEqual(readdirSync(sandbox), [])
  } finally {
    rmSync(folder, { recursive: true })
  }
})
