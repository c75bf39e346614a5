import assert from 'node:assert/strict'
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import {
  credentialsFromFiles,
  eraseLogin,
  hasLogin,
  listLogins,
  parseLoginTarget,
  storeLogin,
} from './index.ts'

const HELPER = `#!/bin/sh
store="$(dirname "$0")/store"
case $1 in
  store) cat > "$store" ;;
  get) cat "$store" 2>/dev/null || { echo credentials not found in native keychain; exit 1; } ;;
  erase) rm "$store" 2>/dev/null || { echo credentials not found in native keychain; exit 1; } ;;
esac
`
const ANN = { username: 'ann', password: 'a:b c' }

describe('a file with logins', () => {
  let folder: string
  let file: string
  const env = () => ({ PATH: `${folder}:${process.env['PATH']}` })
  const content = () => JSON.parse(readFileSync(file, 'utf8'))
  const find = async (registry: string, repository?: string) => {
    const found = await credentialsFromFiles([file], env()).find(registry, { repository })
    return found?.kind === 'password' ? `${found.username} ${found.password}` : found?.kind
  }
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'loam-login-'))
    file = join(folder, 'docker', 'config.json')
  })
  afterEach(() => {
    rmSync(folder, { recursive: true })
  })

  test('is created for its owner alone, and what is stored in it is found', async () => {
    const target = parseLoginTarget('registry.lan:5000')
    assert.equal(hasLogin(file, target), false)
    assert.deepEqual(await storeLogin(file, target, ANN, { env: env() }), { file, helper: undefined })
    assert.equal(statSync(file).mode & 0o777, 0o600)
    assert.equal(await find('registry.lan:5000'), 'ann a:b c')
    assert.equal(hasLogin(file, target), true)
  })

  test('keeps the numbers of other programs as they are written', async () => {
    const numbers = '12345678901234567890, -0, 1.0, 1e400, 2.50'
    const foreign = `\ufeff{"auths":{"b.test":{"auth":"YTpi","n":[${numbers}]}},"n":12345678901234567890,"x":[${numbers}]}`
    writeFileSync(join(folder, 'config.json'), foreign)
    file = join(folder, 'config.json')
    const target = parseLoginTarget('a.test')
    await storeLogin(file, target, ANN, { env: env() })
    await eraseLogin(file, target, { env: env() })
    assert.equal(`\ufeff${readFileSync(file, 'utf8').replaceAll(/\s/g, '')}`, foreign.replaceAll(' ', ''))
  })

  test("stays its owner's when root changes it, and so do the directories and the target of a link that root creates", {
    skip: process.geteuid?.() !== 0,
  }, async () => {
    chownSync(folder, 1234, 1235)
    const target = parseLoginTarget('x.test')
    const ownerOf = (path: string) => [statSync(path).uid, statSync(path).gid]
    await storeLogin(file, target, ANN, { env: env() })
    for (const path of [file, join(folder, 'docker')]) assert.deepEqual(ownerOf(path), [1234, 1235])
    await storeLogin(file, parseLoginTarget('y.test'), ANN, { env: env() })
    assert.deepEqual(ownerOf(file), [1234, 1235])
    symlinkSync('docker/other.json', join(folder, 'dangling.json'))
    await storeLogin(join(folder, 'dangling.json'), target, ANN, { env: env() })
    assert.deepEqual(ownerOf(join(folder, 'docker/other.json')), [1234, 1235])
    assert.ok(lstatSync(join(folder, 'dangling.json')).isSymbolicLink())
  })

  test('keeps its other entries and fields, and the symlink that leads to it', async () => {
    const real = join(folder, 'real.json')
    file = join(folder, 'link.json')
    const other = { auth: Buffer.from('bob:1').toString('base64') }
    writeFileSync(
      real,
      JSON.stringify({ auths: { 'HTTPS://x.test/v1/': { auth: 'eDp5' }, 'y.test': other }, psFormat: 'z' }),
    )
    symlinkSync(real, file)
    await storeLogin(file, parseLoginTarget('x.test'), ANN, { env: env() })
    const auth = Buffer.from('ann:a:b c').toString('base64')
    assert.deepEqual(content(), { auths: { 'y.test': other, 'x.test': { auth } }, psFormat: 'z' })
    assert.deepEqual(JSON.parse(readFileSync(real, 'utf8')), content())
  })

  test('has the login to Docker Hub under the key that docker and podman read', async () => {
    for (const [name, key] of [
      ['config.json', 'https://index.docker.io/v1/'],
      ['auth.json', 'docker.io'],
    ] as const) {
      file = join(folder, name)
      await storeLogin(file, parseLoginTarget('docker.io'), ANN, { env: env() })
      assert.deepEqual(Object.keys(content().auths), [key])
      assert.equal(await find('docker.io'), 'ann a:b c')
      await eraseLogin(file, parseLoginTarget('https://index.docker.io/v1/'), { env: env() })
      assert.deepEqual(content().auths, {})
    }
  })

  test('has a login for the repositories of one organisation beside that of the registry', async () => {
    await storeLogin(file, parseLoginTarget('x.test'), ANN, { env: env() })
    await storeLogin(
      file,
      parseLoginTarget('x.test/team'),
      { username: 'tim', password: '2' },
      { env: env() },
    )
    assert.deepEqual([await find('x.test', 'team/app'), await find('x.test', 'app')], ['tim 2', 'ann a:b c'])
    await eraseLogin(file, parseLoginTarget('x.test'), { env: env() })
    assert.deepEqual(listLogins(file), [{ registry: 'x.test', path: 'team' }])
    assert.equal(await eraseLogin(file, parseLoginTarget('x.test'), { env: env() }), undefined)
  })

  test('gives the password to the helper that it names, and holds none itself', async () => {
    file = join(folder, 'config.json')
    writeFileSync(file, JSON.stringify({ credHelpers: { 'x.test': 'shelf' } }))
    writeFileSync(join(folder, 'docker-credential-shelf'), HELPER)
    chmodSync(join(folder, 'docker-credential-shelf'), 0o755)
    const target = parseLoginTarget('x.test')
    assert.equal((await storeLogin(file, target, ANN, { env: env() })).helper, 'shelf')
    assert.deepEqual(content().auths, { 'x.test': {} })
    assert.equal(await find('x.test'), 'ann a:b c')
    assert.equal((await eraseLogin(file, target, { env: env() }))?.helper, 'shelf')
    assert.equal(await find('x.test'), undefined)
    assert.equal(await eraseLogin(file, target, { env: env() }), undefined)
    writeFileSync(file, JSON.stringify({ credsStore: 'nosuch' }))
    await assert.rejects(storeLogin(file, target, ANN, { env: env() }), {
      message: /docker-credential-nosuch/,
    })
  })

  test('is not overwritten if it is not valid', async () => {
    file = join(folder, 'config.json')
    writeFileSync(file, '{"auths":')
    await assert.rejects(storeLogin(file, parseLoginTarget('x.test'), ANN, { env: env() }), {
      code: 'CREDENTIALS_INVALID',
    })
    assert.equal(readFileSync(file, 'utf8'), '{"auths":')
  })

  test('a text that is not a registry is refused', () => {
    assert.deepEqual(parseLoginTarget('https://Quay.io/team/'), { registry: 'quay.io', path: 'team' })
    for (const text of ['', 'a b', 'x.test:port', '-x', 'x.test/A', '../x'])
      assert.throws(() => parseLoginTarget(text), { code: 'USAGE' }, text)
  })
})
