import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { CredentialProviders } from './credential-providers.ts'
import { durationMs, matchesImage, readProviderConfig } from './provider-config.ts'

const API = 'credentialprovider.kubelet.k8s.io/v1'
const IMAGE = { repository: 'team/app' }

interface Answer {
  readonly cacheKeyType?: string
  readonly cacheDuration?: string
  readonly auth?: Readonly<Record<string, { username: string; password: string }>> | null
  readonly apiVersion?: string
}

let folder = ''
let nowMs = 0
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'loam-providers-'))
  nowMs = 1000
})
afterEach(() => {
  rmSync(folder, { recursive: true })
})

/** Writes a program that keeps what it reads, its arguments and its environment, and answers. */
function program(name: string, lines: string): void {
  const file = join(folder, name)
  const script = `#!/bin/sh\n{ cat; echo; echo "args $*"; env; } >> ${folder}/${name}.log\n${lines}\n`
  writeFileSync(file, script)
  chmodSync(file, 0o755)
}

function answering(name: string, answer: Answer): void {
  const { apiVersion = API, cacheKeyType = 'Registry', auth, cacheDuration } = answer
  const response = { kind: 'CredentialProviderResponse', apiVersion, cacheKeyType, cacheDuration, auth }
  writeFileSync(join(folder, `${name}.json`), JSON.stringify(response))
  program(name, `cat ${folder}/${name}.json`)
}

const logOf = (name: string) =>
  existsSync(join(folder, `${name}.log`)) ? readFileSync(join(folder, `${name}.log`), 'utf8') : ''
const countOf = (name: string) => logOf(name).split('CredentialProviderRequest').length - 1

/** One provider of the configuration, as YAML. */
const provider = (name: string, more = '', globs = '"*.registry.test"') => `
- name: ${name}
  matchImages: [${globs}]
  defaultCacheDuration: "1h0m0s"
  apiVersion: ${API}
${more}`

function open(...providers: readonly string[]): CredentialProviders {
  const config = join(folder, 'config.yaml')
  const head = 'apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:'
  writeFileSync(config, `${head}${providers.join('')}`)
  const env = { PATH: '/usr/bin:/bin', AWS_PROFILE: 'own' }
  return new CredentialProviders({ config, binDir: folder, env, now: () => nowMs })
}

const auth = (key: string, password = 'pw') => ({ [key]: { username: 'anna', password } })

describe('credential providers of the kubelet', () => {
  test('a provider gets the image, its arguments and its environment, and its answer is the credential', async () => {
    answering('one', { auth: auth('a.registry.test') })
    const more = '  args: [get, "two words"]\n  env: [{ name: MODE, value: x }]\n'
    const source = open(provider('one', more))
    assert.deepEqual(await source.find('a.registry.test', IMAGE), {
      kind: 'password',
      username: 'anna',
      password: 'pw',
      from: 'credential provider one',
    })
    const [request = ''] = logOf('one').split('\n')
    assert.deepEqual(JSON.parse(request), {
      kind: 'CredentialProviderRequest',
      apiVersion: API,
      image: 'a.registry.test/team/app',
    })
    for (const line of ['args get two words', 'MODE=x', 'AWS_PROFILE=own'])
      assert.ok(logOf('one').split('\n').includes(line), line)
  })

  test('a provider is not asked about images that it is not for, nor again while its answer is kept', async () => {
    answering('one', { auth: auth('a.registry.test') })
    const source = open(provider('one'))
    assert.equal(await source.find('registry.test', IMAGE), undefined)
    assert.equal(countOf('one'), 0)
    const find = async (repository: string, host = 'a.registry.test') => source.find(host, { repository })
    await Promise.all([find('x'), find('x'), find('x')])
    await find('y')
    assert.equal(countOf('one'), 1)
    await find('x', 'b.registry.test')
    assert.equal(countOf('one'), 2)
    nowMs += 3_600_001
    await find('x')
    assert.equal(countOf('one'), 3)
  })

  test('an answer is kept for an image, a registry or all images, and as long as it says', async () => {
    for (const [cacheKeyType, expected] of [
      ['Image', 4],
      ['Registry', 3],
      ['Global', 2],
    ] as const) {
      const name = `kept-${cacheKeyType}`
      answering(name, { cacheKeyType, cacheDuration: '10s', auth: {} })
      const source = open(provider(name))
      const ask = async () => {
        await source.find('a.registry.test', { repository: 'x' })
        await source.find('a.registry.test', { repository: 'y' })
        await source.find('b.registry.test', { repository: 'x' })
      }
      await ask()
      await ask()
      assert.equal(countOf(name), expected - 1, cacheKeyType)
      nowMs += 10_001
      await source.find('a.registry.test', { repository: 'x' })
      assert.equal(countOf(name), expected, cacheKeyType)
    }
    answering('never', { cacheDuration: '0s', auth: auth('a.registry.test') })
    const source = open(provider('never'))
    await source.find('a.registry.test', IMAGE)
    await source.find('a.registry.test', IMAGE)
    assert.equal(countOf('never'), 2)
  })

  test('the most specific key of an answer counts, and one of another repository does not', async () => {
    const keys = {
      ...auth('*.registry.test', 'host'),
      ...auth('a.registry.test/team', 'team'),
      ...auth('a.registry.test/te', 'other'),
    }
    answering('one', { auth: keys })
    const source = open(provider('one'))
    const passwordOf = async (repository: string) => {
      const found = await source.find('a.registry.test', { repository })
      return found?.kind === 'password' ? found.password : undefined
    }
    assert.deepEqual([await passwordOf('team/app'), await passwordOf('teams/app')], ['team', 'host'])
  })

  test('a provider that fails is named by the error, and the next one is asked', async () => {
    program('fails', 'echo "no role: \\"x\\"" >&2; exit 3')
    program('babbles', 'echo "password=geheim-123"')
    answering('old', { apiVersion: 'credentialprovider.kubelet.k8s.io/v1beta1', auth: {} })
    const needs = `  tokenAttributes: { serviceAccountTokenAudience: x, cacheType: Token, requireServiceAccount: true }\n`
    for (const [name, why, more] of [
      [
        'fails',
        /^ask credential provider fails for a\.registry\.test\/team\/app: it exited with status 3 \(no role/,
        '',
      ],
      ['babbles', /provider babbles .*: its answer is not a CredentialProviderResponse$/, ''],
      ['old', /provider old .*: its answer does not have the apiVersion/, ''],
      ['absent', /provider absent .*: it is not installed$/, ''],
      ['tokens', /provider tokens .*: it needs the token of a pod.*--image-service-endpoint/, needs],
    ] as const) {
      const found = await open(provider(name, more)).find('a.registry.test', IMAGE)
      assert.ok(found?.kind === 'unavailable', name)
      assert.match(found.reason.message, why)
      assert.match(found.reason.hint ?? '', /config\.yaml configures it/)
    }
    answering('works', { auth: auth('a.registry.test') })
    const found = await open(provider('fails'), provider('works')).find('a.registry.test', IMAGE)
    assert.equal(found?.kind, 'password')
  })

  test('a provider that writes without end, or whose caller is gone, is killed', async () => {
    program('endless', 'exec yes')
    const found = await open(provider('endless')).find('a.registry.test', IMAGE)
    assert.ok(found?.kind === 'unavailable')
    assert.match(found.reason.message, /provider endless .*: killed by SIGKILL/)
    program('slow', `touch ${folder}/began; exec sleep 1000`)
    const stop = new AbortController()
    const asking = open(provider('slow')).find('a.registry.test', { ...IMAGE, signal: stop.signal })
    while (!existsSync(join(folder, 'began'))) await new Promise(setImmediate)
    stop.abort()
    await assert.rejects(asking, { code: 'CANCELED' })
  })
})

describe('credential providers that take the token of a service account', () => {
  const takes = (more = '') =>
    `  tokenAttributes: { serviceAccountTokenAudience: aud, requireServiceAccount: true${more} }\n`
  const pod = (token: string, audience = 'aud') => new Map([[audience, token]])
  const tokensSent = () =>
    [...logOf('one').matchAll(/"serviceAccountToken":"([^"]*)"/g)].map(([, token]) => token)

  test('a provider gets the token for its audience, and the others get none', async () => {
    answering('one', { auth: auth('a.registry.test') })
    answering('plain', { auth: {} })
    const source = open(provider('plain'), provider('one', takes())).ofPod(pod('t1'))
    assert.equal((await source.find('a.registry.test', IMAGE))?.kind, 'password')
    assert.deepEqual(tokensSent(), ['t1'])
    assert.doesNotMatch(logOf('plain'), /serviceAccount/)
  })

  test('an answer is kept for one token, whatever may be kept longer', async () => {
    answering('one', { auth: auth('a.registry.test'), cacheKeyType: 'Global' })
    const providers = open(provider('one', takes(', cacheType: ServiceAccount')))
    for (const token of ['t1', 't1', 't2', 't1'])
      await providers.ofPod(pod(token)).find('a.registry.test', IMAGE)
    assert.deepEqual(tokensSent(), ['t1', 't2'])
  })

  test('tokens decide only where a provider for the image takes one', async () => {
    const globs = '"tokens.registry.test"'
    const providers = open(provider('plain'), provider('one', takes(), globs))
    assert.equal(await providers.takesTokens('tokens.registry.test', 'team/app'), true)
    assert.equal(await providers.takesTokens('a.registry.test', 'team/app'), false)
    writeFileSync(join(folder, 'config.yaml'), 'kind: [')
    assert.equal(await providers.takesTokens('tokens.registry.test', 'team/app'), false)
  })

  test('a provider that does not require a token is asked without one where there is none for it', async () => {
    answering('one', { auth: auth('a.registry.test') })
    const optional = takes().replace('true', 'false')
    assert.equal((await open(provider('one', optional)).find('a.registry.test', IMAGE))?.kind, 'password')
    const other = open(provider('one', optional)).ofPod(pod('t1', 'other'))
    assert.equal((await other.find('a.registry.test', IMAGE))?.kind, 'password')
    assert.deepEqual([countOf('one'), tokensSent()], [2, []])
  })

  test('a token that a provider repeats in its error is not shown', async () => {
    program('one', 'echo "denied: pod-token-5912" >&2; exit 1')
    const source = open(provider('one', takes())).ofPod(pod('pod-token-5912'))
    const found = await source.find('a.registry.test', IMAGE)
    assert.ok(found?.kind === 'unavailable')
    assert.match(found.reason.message, /exited with status 1 \(denied: (?!pod-token)/)
  })

  test('a provider whose token or annotations are not here is named by the error', async () => {
    answering('one', { auth: auth('a.registry.test') })
    const needs = ', requiredServiceAccountAnnotationKeys: [team/role]'
    for (const [more, given, why] of [
      ['', pod('t1', 'other'), /it needs a token for aud, .*spec\.tokenRequests/],
      [needs, pod('t1'), /it needs annotations of the service account \(team\/role\)/],
    ] as const) {
      const found = await open(provider('one', takes(more)))
        .ofPod(given)
        .find('a.registry.test', IMAGE)
      assert.ok(found?.kind === 'unavailable')
      assert.match(found.reason.message, why)
    }
    assert.equal(countOf('one'), 0)
  })
})

describe('the configuration of credential providers', () => {
  test('a file that is none is an error that names it', async () => {
    const path = join(folder, 'bad.yaml')
    for (const text of [
      'x',
      '{',
      'kind: Other\nproviders: []',
      `kind: CredentialProviderConfig\nproviders:${provider('../x')}`,
      `kind: CredentialProviderConfig\nproviders:${provider('x').replace('1h0m0s', 'soon')}`,
      `kind: CredentialProviderConfig\nproviders:${provider('x').replace(API, 'v9')}`,
    ]) {
      writeFileSync(path, text)
      await assert.rejects(readProviderConfig(path), (error: Error & { code?: string }) => {
        assert.equal(error.code, 'CREDENTIALS_INVALID')
        assert.ok(error.message.startsWith(`read ${path}: `), error.message)
        return true
      })
    }
    await assert.rejects(readProviderConfig(join(folder, 'absent')), { code: 'CREDENTIALS_INVALID' })
  })

  test('a configuration that is absent or invalid leaves images without a credential, and counts once it is right', async () => {
    answering('late', { auth: auth('a.registry.test') })
    const providers = open(provider('late'))
    const path = join(folder, 'config.yaml')
    const text = readFileSync(path, 'utf8')
    rmSync(path)
    for (const wrong of [undefined, `${text}  env: [{ name: TOKEN, value: 5551234 }]\n`]) {
      if (wrong !== undefined) writeFileSync(path, wrong)
      const found = await providers.find('a.registry.test', IMAGE)
      assert.ok(found?.kind === 'unavailable')
      assert.ok(found.reason.message.startsWith(`read ${path}: `))
      assert.doesNotMatch(found.reason.message, /5551234/)
    }
    writeFileSync(path, text)
    assert.equal((await providers.find('a.registry.test', IMAGE))?.kind, 'password')
  })

  test('a glob matches images as in the kubelet', () => {
    for (const [glob, image, isMatch] of [
      ['*.dkr.ecr.*.amazonaws.com', '1.dkr.ecr.eu-1.amazonaws.com/x', true],
      ['*.io', 'a.b.io/x', false],
      ['registry.io:8080/path', 'registry.io:8080/path/x', true],
      ['registry.io/path', 'registry.io:8080/path/x', false],
      ['registry.io/path', 'registry.io/other', false],
      ['https://gcr.io', 'gcr.io/x', true],
      ['docker.io', 'docker.io/library/x', true],
    ] as const) {
      assert.equal(matchesImage(glob, image), isMatch, `${glob} ${image}`)
    }
  })

  test('a duration is written as in Go', () => {
    assert.deepEqual(['12h', '1h0m0.5s', '0s', '0', '5ms'].map(durationMs), [43_200_000, 3_600_500, 0, 0, 5])
    for (const text of ['', '12', '-1s', '1 h', '1y', 'h']) assert.throws(() => durationMs(text))
  })
})
