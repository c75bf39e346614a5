import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type ErrorCode, isLoamError } from '../errors/index.ts'
import { helperEnvironment } from './credential-helper.ts'
import type { Credential } from './credential.ts'
import { credentialsFromFiles, credentialsOfUser, firstCredentials } from './credentials.ts'
import { credentialsFromConfig } from './index.ts'

const auth = (user: string) => ({ auth: Buffer.from(`${user}:pa:ss`).toString('base64') })
const find = async (config: unknown, registry: string, repository?: string) =>
  credentialsFromConfig(JSON.stringify(config), 'FILE').find(registry, { repository })
/** Returns the user of a credential, or its kind. */
const userOf = (credential: Credential | undefined) =>
  credential?.kind === 'password' ? credential.username : credential?.kind

const rejects = async (act: Promise<unknown>, code: ErrorCode, words: string) => {
  await assert.rejects(act, (error) => {
    assert.ok(isLoamError(error, code), String(error))
    assert.ok(`${error.message} ${error.hint ?? ''}`.includes(words), error.message)
    return true
  })
}

describe('credentials of a file', () => {
  test('credentials are found under a host in every form that docker, podman and the kubelet write', async () => {
    const rows: readonly (readonly [key: string, registry: string, isFound: boolean])[] = [
      ['quay.io', 'quay.io', true],
      ['https://quay.io', 'quay.io', true],
      ['https://quay.io/', 'quay.io', true],
      ['https://quay.io/v1/', 'quay.io', true],
      ['https://quay.io/v2/', 'quay.io', true],
      ['https://quay.io/v2', 'quay.io', true],
      ['http://quay.io/v1/', 'quay.io', true],
      ['quay.io/v1/', 'quay.io', true],
      ['quay.io/', 'quay.io', true],
      ['Quay.IO', 'quay.io', true],
      ['quay.io:443', 'quay.io', true],
      ['quay.io', 'quay.io:443', true],
      ['localhost:5000', 'localhost:5000', true],
      ['http://localhost:5000/v2/', 'localhost:5000', true],
      ['[::1]:5000', '[::1]:5000', true],
      ['quay.io', 'quay.io:444', false],
      ['quay.io:5000', 'quay.io', false],
      ['quay.io', 'quay.io.evil.example', false],
      ['quay.io', 'evil-quay.io', false],
      ['io', 'quay.io', false],
      ['https://index.docker.io/v1/', 'docker.io', true],
      ['index.docker.io', 'docker.io', true],
      ['docker.io', 'index.docker.io', true],
      ['registry-1.docker.io', 'docker.io', true],
      ['https://index.docker.io/v1/access-token', 'docker.io', false],
      ['*.example.com', 'reg.example.com', true],
      ['*.example.com', 'a.reg.example.com', false],
      ['*.example.com', 'example.com', false],
      ['reg-?.example.com:5000', 'reg-1.example.com:5000', true],
      ['reg-?.example.com:5000', 'reg-1.example.com:5001', false],
      ['*', 'example.com', false],
      ['*.*', 'example.com', true],
      ['(a+)+.example', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaa!.example', false],
    ]
    for (const [key, registry, isFound] of rows) {
      for (const config of [{ auths: { [key]: auth('u') } }, { [key]: auth('u') }]) {
        const found = await find(config, registry, 'team/app')
        assert.equal(userOf(found), isFound ? 'u' : undefined, `${key} for ${registry}`)
      }
    }
  })

  test('credentials of the most specific key win in any order, and go to no other path', async () => {
    const keys = [
      'quay.io',
      'quay.io/org-b',
      'quay.io/org-a/app',
      'quay.io/org-a',
      'quay.io/org-b/sub',
      'https://quay.io/org-c',
    ]
    const rows: readonly (readonly [repository: string | undefined, key: string])[] = [
      ['org-a/app', 'quay.io/org-a/app'],
      ['org-a/app2', 'quay.io/org-a'],
      ['org-a/app/x', 'quay.io/org-a/app'],
      ['org-b/app', 'quay.io/org-b'],
      ['org-b/sub/app', 'quay.io/org-b/sub'],
      ['org-b/submarine', 'quay.io/org-b'],
      ['org-bb/app', 'quay.io'],
      ['org-c/app', 'https://quay.io/org-c'],
      ['org-cc', 'quay.io'],
      ['other', 'quay.io'],
      [undefined, 'quay.io'],
    ]
    for (const order of [keys, keys.toReversed()]) {
      const auths = Object.fromEntries(order.map((key) => [key, auth(key.replaceAll(':', ''))]))
      const { 'quay.io': _host, ...paths } = auths
      for (const [repository, key] of rows) {
        assert.equal(
          userOf(await find({ auths }, 'quay.io', repository)),
          key.replaceAll(':', ''),
          `${repository}`,
        )
        const alone = key === 'quay.io' ? undefined : key.replaceAll(':', '')
        assert.equal(userOf(await find({ auths: paths }, 'quay.io', repository)), alone, `${repository}`)
      }
    }
    const hub = { auths: { 'docker.io/org': auth('org'), 'https://index.docker.io/v1/': auth('all') } }
    assert.equal(userOf(await find(hub, 'docker.io', 'org/app')), 'org')
    assert.equal(userOf(await find(hub, 'docker.io', 'library/busybox')), 'all')
    const namespaces = {
      auths: { 'reg.example/v1': auth('v1'), 'reg.example/v2/x': auth('v2'), 'reg.example': auth('all') },
    }
    assert.equal(userOf(await find(namespaces, 'reg.example', 'v1/app')), 'v1')
    assert.equal(userOf(await find(namespaces, 'reg.example', 'v2/x/app')), 'v2')
    assert.equal(userOf(await find(namespaces, 'reg.example', 'x/app')), 'all')
  })

  test('credentials prefer the exact host, and skip entries that hold nothing', async () => {
    const both = {
      auths: { 'https://quay.io/v1/': auth('old'), 'quay.io': auth('new'), '*.io': auth('any') },
    }
    assert.equal(userOf(await find(both, 'quay.io')), 'new')
    for (const empty of [
      {},
      null,
      { auth: '' },
      { auth: null },
      { auth: Buffer.from(':').toString('base64') },
      { username: '' },
    ]) {
      const config = { auths: { 'quay.io/org': empty, 'quay.io': auth('host') } }
      assert.equal(userOf(await find(config, 'quay.io', 'org/app')), 'host', JSON.stringify(empty))
    }
  })

  test('credentials are passwords, identity tokens or registry tokens, and say where they are from', async () => {
    assert.deepEqual(await find({ auths: { x: auth('user') } }, 'x'), {
      kind: 'password',
      username: 'user',
      password: 'pa:ss',
      from: 'FILE',
    })
    assert.deepEqual(await find({ auths: { x: { username: 'u', password: 'p' } } }, 'x'), {
      kind: 'password',
      username: 'u',
      password: 'p',
      from: 'FILE',
    })
    const identity = { kind: 'identity-token', token: 'i', from: 'FILE' }
    assert.deepEqual(await find({ auths: { x: { identitytoken: 'i', ...auth('u') } } }, 'x'), identity)
    const token = { kind: 'registry-token', token: 't', from: 'FILE' }
    assert.deepEqual(await find({ auths: { x: { registrytoken: 't', identitytoken: 'i' } } }, 'x'), token)
    await rejects(find({ auths: { x: { auth: 'bm90aGluZw==' } } }, 'x'), 'CREDENTIALS_INVALID', 'FILE')
  })

  test('credentials are searched in all files in order, each read when it is needed', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'loam-auth-'))
    const write = (name: string, content: string) => {
      writeFileSync(join(folder, name), content)
      return join(folder, name)
    }
    try {
      const paths = [
        join(folder, 'absent'),
        write('empty', ''),
        write('other', JSON.stringify({ auths: { 'quay.io/other': auth('other') } })),
        write('first', JSON.stringify({ auths: { 'quay.io': auth('first') } })),
        write('second', JSON.stringify({ auths: { 'quay.io': auth('second'), 'ghcr.io': auth('ghcr') } })),
        write('broken', '{ "auths": '),
      ]
      const source = credentialsFromFiles(paths)
      assert.equal(userOf(await source.find('quay.io', { repository: 'org/app' })), 'first')
      assert.equal(userOf(await source.find('quay.io', { repository: 'other/app' })), 'other')
      const ghcr = await source.find('ghcr.io')
      assert.equal(ghcr !== undefined && ghcr.kind !== 'unavailable' ? ghcr.from : '', join(folder, 'second'))
      await rejects(source.find('elsewhere.example'), 'CREDENTIALS_INVALID', join(folder, 'broken'))
      await rejects(credentialsFromFiles([folder]).find('x'), 'CREDENTIALS_INVALID', folder)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})

describe('a file of credentials that is not JSON', () => {
  test('a file of credentials with invalid JSON is reported with the position, and without its text', () => {
    const place = (text: string): string => {
      try {
        credentialsFromConfig(text, 'FILE')
        return ''
      } catch (error) {
        assert.ok(isLoamError(error, 'CREDENTIALS_INVALID'))
        return error.message
      }
    }
    const expected = 'read FILE: it is not a credentials file'
    assert.equal(place('{ "auths": {\n "x": { "auth": "c2VjcmV0" ] } }'), `${expected} (line 2, column 28)`)
    assert.equal(place('{ "auths": {\n "x": c2VjcmV0OnNlY3JldA== } }'), expected)
  })
})

describe('a credential helper', () => {
  const path = process.env['PATH']
  let folder: string

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'loam-helper-'))
    process.env['PATH'] = `${folder}:${path}`
  })
  after(() => {
    process.env['PATH'] = path
    rmSync(folder, { recursive: true })
  })

  /** Creates a helper that records its requests. */
  const helper = (script: string, name = 'test') => {
    rmSync(join(folder, 'asked'), { force: true })
    const body = `#!/bin/sh\nserver=$(cat)\necho "$server" >> ${folder}/asked\n${script}\n`
    writeFileSync(join(folder, `docker-credential-${name}`), body, { mode: 0o755 })
  }
  const asked = () =>
    existsSync(join(folder, 'asked')) ? readFileSync(join(folder, 'asked'), 'utf8').trim().split('\n') : []
  const answers = (answer: unknown) => {
    helper(`cat <<'END'\n${typeof answer === 'string' ? answer : JSON.stringify(answer)}\nEND`)
  }

  test('a credential helper gets the variables of keyrings, clouds and proxies, and no other secret', async () => {
    helper(`env > ${folder}/env; echo '{}'`)
    const config = JSON.stringify({ credHelpers: { 'reg.example': 'test' } })
    const given = {
      ...{
        PATH: process.env['PATH'],
        HOME: '/root',
        AWS_PROFILE: 'a',
        https_proxy: 'http://proxy',
        MINE_1: 'm',
      },
      ...{ GITHUB_TOKEN: 'secret', LOAM_DOCKER_CONFIG: 'secret', REGISTRY_PASSWORD: 'secret', MIN: 'secret' },
    }
    const env = helperEnvironment(given, ['MINE_*'])
    await credentialsFromConfig(config, 'FILE', env).find('reg.example')
    const seen = readFileSync(join(folder, 'env'), 'utf8')
    assert.doesNotMatch(seen, /secret/)
    for (const name of ['HOME', 'AWS_PROFILE', 'https_proxy', 'MINE_1'])
      assert.match(seen, new RegExp(`^${name}=`, 'm'))
  })

  test('a credential helper gives passwords and identity tokens, with fields in any case', async () => {
    const config = { credHelpers: { 'reg.example': 'test' } }
    const from = 'docker-credential-test, which credHelpers in FILE names'
    answers({ ServerURL: 'reg.example', Username: 'u', Secret: 's' })
    assert.deepEqual(await find(config, 'reg.example'), {
      kind: 'password',
      username: 'u',
      password: 's',
      from,
    })
    answers({ Username: '<token>', Secret: 's' })
    assert.deepEqual(await find(config, 'reg.example'), { kind: 'identity-token', token: 's', from })
    answers({ username: 'u', secret: 's' })
    assert.deepEqual(await find(config, 'reg.example'), {
      kind: 'password',
      username: 'u',
      password: 's',
      from,
    })
    assert.deepEqual(asked(), ['reg.example'])
  })

  test('a credential helper that answers nothing means anonymous access', async () => {
    const config = { credsStore: 'test' }
    for (const nothing of [
      { ServerURL: '', Username: '', Secret: '' },
      { Username: 'u', Secret: '' },
      {},
      { Username: null, Secret: null },
    ]) {
      answers(nothing)
      assert.equal(await find(config, 'reg.example'), undefined, JSON.stringify(nothing))
    }
    for (const words of [
      'credentials not found in native keychain',
      'Credentials Not Found',
      'no credentials for this server',
    ]) {
      helper(`echo "${words}"; exit 1`)
      assert.equal(await find(config, 'reg.example'), undefined, words)
    }
  })

  test('a credential helper that fails or is missing is skipped, and named if no other source has credentials', async () => {
    const broken: readonly (readonly [script: string, words: string])[] = [
      ['echo "the keychain is locked"; exit 1', 'status 1 (the keychain is locked)'],
      [`echo '{"Username":"u","Secret":"pw"}'; echo cut >&2; exit 1`, 'status 1 (cut)'],
      ['echo "locked" >&2; exit 3', 'status 3 (locked)'],
      ['echo "warning: soon"; echo \'{"Username":"u","Secret":"s"}\'', 'not JSON'],
      ['kill -9 $$', 'SIGKILL'],
    ]
    for (const [script, words] of broken) {
      helper(script)
      const found = await find({ credsStore: 'test', auths: { 'other.example': auth('u') } }, 'reg.example')
      assert.ok(found?.kind === 'unavailable', script)
      assert.ok(found.reason.message.includes(words), found.reason.message)
      assert.ok((found.reason.hint ?? '').includes('credsStore in FILE'))
    }
    const missing = await find({ credHelpers: { 'reg.example': 'none' } }, 'reg.example')
    assert.ok(missing?.kind === 'unavailable')
    assert.equal(missing.reason.message, 'ask docker-credential-none for reg.example: it is not installed')
    assert.match(missing.reason.hint ?? '', /^credHelpers in FILE configures it/)
    const beside = { credsStore: 'none', auths: { 'reg.example': auth('u') } }
    assert.equal(userOf(await find(beside, 'reg.example')), 'u')
    const files = firstCredentials([
      { find: async () => missing },
      { find: async () => ({ kind: 'password', username: 'later', password: 'p' }) },
    ])
    assert.equal(userOf(await files.find('reg.example')), 'later')
    assert.equal(await find({ credHelpers: { 'other.example': 'none' } }, 'reg.example'), undefined)
  })

  test('a credential helper with a path for a name is refused', async () => {
    await rejects(find({ credHelpers: { x: '../evil' } }, 'x'), 'CREDENTIALS_INVALID', 'credHelpers in FILE')
  })

  test('a credential helper of a host is asked before the store and entries of that host, and after those of a path', async () => {
    helper('echo \'{"Username":"helper","Secret":"s"}\'')
    helper('echo \'{"Username":"store","Secret":"s"}\'', 'store')
    const config = {
      credHelpers: { 'reg.example': 'test' },
      credsStore: 'store',
      auths: { 'reg.example': auth('entry'), 'reg.example/org': auth('org') },
    }
    assert.equal(userOf(await find(config, 'reg.example', 'team/app')), 'helper')
    assert.equal(userOf(await find(config, 'reg.example', 'org/app')), 'org')
    assert.equal(userOf(await find({ ...config, credHelpers: {} }, 'reg.example')), 'store')
    // As in docker: an empty name means no helper for that host.
    assert.equal(
      userOf(await find({ ...config, credHelpers: { 'reg.example': '' } }, 'reg.example')),
      'entry',
    )
    await find({ credsStore: 'test' }, 'docker.io')
    assert.equal(asked().at(-1), 'https://index.docker.io/v1/')
  })

  test('a credential helper of a path is asked for the path, and for the host where it does not know paths', async () => {
    const config = { credHelpers: { 'reg.example/org': 'test' } }
    helper(
      '[ "$server" = reg.example ] && echo \'{"Username":"u","Secret":"s"}\' && exit; echo "credentials not found"; exit 1',
    )
    assert.equal(userOf(await find(config, 'reg.example', 'org/app')), 'u')
    assert.deepEqual(asked(), ['reg.example/org', 'reg.example'])
    assert.equal(await find(config, 'reg.example', 'other/app'), undefined)
  })
})

describe('a user that a program names for one request', () => {
  test('the user of one request is for the registry that the request names, and not for its mirrors or redirects', async () => {
    const credentials = credentialsOfUser('alice', 'secret!').for?.('reg.example:5000')
    assert.equal(userOf(await credentials?.find('reg.example:5000')), 'alice')
    for (const other of ['mirror.example', 'reg.example', 'reg.example:5001', 'docker.io'])
      assert.equal(await credentials?.find(other), undefined, other)
    assert.equal(credentialsFromConfig('{}').for, undefined)
  })
})
