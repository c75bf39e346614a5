import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { readConfiguration } from '../config/index.ts'
import { withFileRights } from '../linux/index.ts'
import { findCredentials } from './registry-access.ts'

test('a file of credentials that a caller names is read with the rights of that caller', {
  skip: process.getuid?.() !== 0 && 'only root takes the rights of others',
}, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-auth-'))
  try {
    chmodSync(folder, 0o755)
    const path = join(folder, 'auth.json')
    const auth = Buffer.from('user:password').toString('base64')
    writeFileSync(path, JSON.stringify({ auths: { 'registry.example': { auth } } }), { mode: 0o600 })
    const { values } = readConfiguration({ flags: { root: join(folder, 'store') }, env: {} })
    const find = async () =>
      findCredentials(values, { userId: 0, env: {}, cwd: '' }, path).find('registry.example')
    const caller = { userId: 61_234, groupIds: [61_234] }
    await assert.rejects(withFileRights(caller, [], find), /EACCES/)
    assert.equal((await find())?.kind, 'password')
  } finally {
    rmSync(folder, { recursive: true })
  }
})
