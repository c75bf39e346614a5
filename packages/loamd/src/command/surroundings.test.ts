import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { findOwnFile } from '../own-files.ts'
import { findOwnVariable, findProcessVariable } from './surroundings.ts'

test('a word that names a stream of the caller is found behind options, transports and links, and no other word is', async () => {
  const cwd = mkdtempSync(join(tmpdir(), 'loam-surroundings-'))
  try {
    symlinkSync('/dev', join(cwd, 'devices'))
    symlinkSync('devices/stdin', join(cwd, 'link'))
    const find = async (...args: readonly string[]) => findOwnFile(args, cwd)
    for (const word of [
      '-',
      '/dev/stdout',
      '/dev/fd/63',
      'oci-archive:/dev/stdin:tag',
      'docker-archive:/proc/self/fd/0',
      '--container-info=/dev/fd/3',
      'type=bind,source=/proc/self/fd/4,target=/x',
      'file:///dev/stdin',
      './link',
      'aci:devices/stdin',
      join(cwd, 'devices/fd/0'),
    ])
      assert.equal(await find('put', word, 'name'), word)
    for (const args of [
      ['pull', 'debian:12'],
      ['pull', 'oci:./layout:tag'],
      ['images', '--json'],
      ['put', './-', 'x'],
      ['put', '\0', ''],
    ])
      assert.equal(await find(...args), undefined, args.join(' '))
    assert.equal(findOwnVariable({ env: { REGISTRY_AUTH_FILE: '/dev/fd/5' } }), 'REGISTRY_AUTH_FILE')
    assert.equal(findOwnVariable({ env: { OLDPWD: '-', HOME: '/root' } }), undefined)
  } finally {
    rmSync(cwd, { recursive: true })
  }
})

test('a variable that affects a whole process has to be the same in the daemon', () => {
  assert.equal(
    findProcessVariable({ env: { ...process.env, NODE_EXTRA_CA_CERTS: '/ca.crt' } }),
    'NODE_EXTRA_CA_CERTS',
  )
  assert.equal(findProcessVariable({ env: { ...process.env, HTTPS_PROXY: 'http://proxy' } }), undefined)
})
