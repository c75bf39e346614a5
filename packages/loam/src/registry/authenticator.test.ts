import assert from 'node:assert/strict'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { type ErrorCode, isLoamError, type LoamError } from '../errors/index.ts'
import { digestOf, parseReference } from '../image/index.ts'
import { buildImage, buildTar, RegistryServer } from '../testing/index.ts'
import { parseChallenges } from './challenge.ts'
import {
  type CredentialSource,
  credentialsFromConfig,
  credentialsOfUser,
  RegistryClient,
  type RegistryClientOptions,
} from './index.ts'
import { scopesToAsk } from './scopes.ts'

const image = buildImage({ tars: [buildTar([{ name: 'f', data: 'x' }])] })
const basic = (user: string, password: string) =>
  `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`
const anonymous: CredentialSource = { find: async () => undefined }

function createClient(options: Partial<RegistryClientOptions> = {}): RegistryClient {
  return new RegistryClient({
    credentials: anonymous,
    manifestBytes: 4 << 20,
    insecure: [],
    certsDirs: [],
    proxy: { httpProxy: '', httpsProxy: '', noProxy: '' },
    stallTimeoutMs: 5000,
    connectTimeoutMs: 5000,
    retry: { tries: 1, baseMs: 5, waitMs: 50 },
    ...options,
  })
}

async function failure(act: Promise<unknown>, code: ErrorCode): Promise<LoamError> {
  try {
    await act
  } catch (error) {
    assert.ok(isLoamError(error, code), String(error))
    return error
  }
  throw new Error('it worked')
}

interface TokenQuestion {
  readonly method: string
  readonly url: URL
  readonly authorization: string | undefined
  readonly body: string
}

/** A token server beside the registry, which answers with `answer` and records requests. */
class TokenServer {
  readonly asked: TokenQuestion[] = []
  answer: (question: TokenQuestion, response: ServerResponse) => void = (_question, response) =>
    response.end(JSON.stringify({ token: 'good' }))
  readonly #server: Server = createServer((request: IncomingMessage, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const url = new URL(request.url ?? '/', `http://${this.host}`)
      const { method = '', headers } = request
      const body = Buffer.concat(chunks).toString()
      const question = { method, url, authorization: headers.authorization, body }
      this.asked.push(question)
      this.answer(question, response)
    })
  })

  async start(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.listen(0, '127.0.0.1', resolve)
    })
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  stop(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }
}

describe('a registry with a token server', () => {
  let registry: RegistryServer
  let tokens: TokenServer
  let challenge: string
  const reference = (name = 'team/app:1') => parseReference(`${registry.host}/${name}`)

  beforeEach(async () => {
    registry = await RegistryServer.start()
    tokens = new TokenServer()
    await tokens.start()
    for (const repository of ['team/app', 'org-a/app', 'org-b/app', 'org-bb/app'])
      registry.addImage(repository, '1', image)
    challenge = `Bearer realm="http://${tokens.host}/token",service="reg",scope="repository:team/app:pull"`
    registry.intercept = (request, response) => {
      if (request.headers.authorization === 'Bearer good') return false
      response.writeHead(401, { 'www-authenticate': challenge }).end()
      return true
    }
  })
  afterEach(async () => {
    await registry[Symbol.asyncDispose]()
    tokens.stop()
  })

  const pull = async (options: Partial<RegistryClientOptions> = {}) => {
    await using client = createClient(options)
    return await client.getManifest(reference())
  }

  test('a token is taken from either field of the answer, and one of them may be empty', async () => {
    const good: readonly unknown[] = [
      { token: 'good' },
      { access_token: 'good' },
      { token: '', access_token: 'good' },
      { token: 'good', access_token: '' },
      { token: null, access_token: 'good', expires_in: null },
      { token: 'good', expires_in: '300' },
      { token: 'good', expires_in: 0, issued_at: 'never' },
      { token: 'good', expires_in: -1, refresh_token: 'x' },
    ]
    for (const body of good) {
      for (const status of [200, 201]) {
        tokens.answer = (_question, response) => response.writeHead(status).end(JSON.stringify(body))
        await pull()
      }
    }
    for (const body of [{}, { token: '' }, { token: '', access_token: null }, { token: 'a b' }]) {
      tokens.answer = (_question, response) => response.end(JSON.stringify(body))
      await failure(pull(), 'REGISTRY_RESPONSE')
    }
  })

  test('a token server is asked by GET with Basic, by POST for an identity token, and by POST where GET is not allowed', async () => {
    await pull({ credentials: credentialsOfUser('alice', 'secret!') })
    const [asked] = tokens.asked
    assert.equal(asked?.method, 'GET')
    assert.equal(asked.authorization, basic('alice', 'secret!'))
    assert.deepEqual(
      [...asked.url.searchParams],
      [
        ['service', 'reg'],
        ['scope', 'repository:team/app:pull'],
        ['account', 'alice'],
      ],
    )
    const identity = credentialsFromConfig(
      JSON.stringify({ auths: { [registry.host]: { identitytoken: 'long-lived' } } }),
    )
    await pull({ credentials: identity })
    const form = Object.fromEntries(new URLSearchParams(tokens.asked.at(-1)?.body))
    const common = { client_id: 'loam', scope: 'repository:team/app:pull', service: 'reg' }
    assert.deepEqual(form, { ...common, grant_type: 'refresh_token', refresh_token: 'long-lived' })
    tokens.answer = ({ method }, response) => {
      if (method === 'GET') response.writeHead(405).end()
      else response.end(JSON.stringify({ access_token: 'good' }))
    }
    await pull({ credentials: credentialsOfUser('alice', 'secret!') })
    const password = Object.fromEntries(new URLSearchParams(tokens.asked.at(-1)?.body))
    assert.deepEqual(password, { ...common, grant_type: 'password', username: 'alice', password: 'secret!' })
    await failure(pull(), 'REGISTRY_RESPONSE')
  })

  for (const status of [301, 302, 303, 307, 308]) {
    test(`a token server that redirects by ${status} is followed, and gets the password on its own origin alone`, async () => {
      tokens.answer = ({ url }, response) => {
        if (url.pathname === '/token') response.writeHead(status, { location: `/moved/${url.search}` }).end()
        else response.end(JSON.stringify({ token: 'good' }))
      }
      const credentials = credentialsOfUser('alice', 'secret!')
      await pull({ credentials })
      assert.deepEqual(
        tokens.asked.map(({ url, authorization }) => [url.pathname, authorization]),
        [
          ['/token', basic('alice', 'secret!')],
          ['/moved/', basic('alice', 'secret!')],
        ],
      )
      const other = new TokenServer()
      await other.start()
      try {
        tokens.answer = ({ url }, response) =>
          response.writeHead(status, { location: `http://${other.host}/${url.search}` }).end()
        await pull({ credentials })
        assert.deepEqual(
          other.asked.map(({ authorization }) => authorization),
          [undefined],
        )
        const identity = credentialsFromConfig(
          JSON.stringify({ auths: { [registry.host]: { identitytoken: 'long-lived' } } }),
        )
        await failure(pull({ credentials: identity }), 'REGISTRY_RESPONSE')
        assert.equal(other.asked.length, 1)
      } finally {
        other.stop()
      }
    })
  }

  test('a token server that redirects without end, or a realm that is not an address, is refused', async () => {
    tokens.answer = (_question, response) => response.writeHead(307, { location: '/token' }).end()
    await failure(pull(), 'REGISTRY_RESPONSE')
    for (const realm of ['ftp://x/', 'file:///etc/passwd', 'nothing', '', 'http://[']) {
      challenge = `Bearer realm="${realm}"`
      await failure(pull(), 'REGISTRY_RESPONSE')
    }
    challenge = 'Bearer service="reg"'
    await failure(pull(), 'REGISTRY_RESPONSE')
  })

  test('a realm may be a path alone', async () => {
    challenge = 'Bearer realm="/token"'
    const refuse = registry.intercept
    registry.intercept = (request, response) => {
      if (request.url?.startsWith('/token?') !== true) return refuse(request, response)
      response.end(JSON.stringify({ token: 'good' }))
      return true
    }
    await pull()
  })

  test('a token is requested once for all that the operation needs', async () => {
    const content = Buffer.from('x')
    const blob = { mediaType: 'x/y', digest: digestOf(content), sizeBytes: 1 }
    const scopes = () => tokens.asked.map(({ url }) => url.searchParams.getAll('scope'))
    registry.intercept = (request, response) => {
      if (request.headers.authorization === undefined) {
        response.writeHead(401, { 'www-authenticate': challenge }).end()
        return true
      }
      request.resume()
      if (request.method === 'HEAD') response.writeHead(404).end()
      else response.writeHead(201, { location: '/u' }).end()
      return true
    }
    await using client = createClient()
    await client.hasBlob(reference(), blob.digest)
    await client.putBlob(reference(), blob, () => Readable.from([content]))
    await client.putManifest(reference(), 'a/b', Buffer.from('{}'))
    assert.deepEqual(scopes(), [['repository:team/app:pull,push']])
    await client.mountBlob(reference(), blob.digest, 'org-a/app')
    assert.deepEqual(scopes().at(-1), ['repository:team/app:pull,push', 'repository:org-a/app:pull'])
  })

  test('a token server that denies another repository does not stop an upload', async () => {
    tokens.answer = ({ url }, response) => {
      if (url.searchParams.getAll('scope').length > 1) response.writeHead(403).end()
      else response.end(JSON.stringify({ token: 'good' }))
    }
    await using client = createClient()
    assert.equal(await client.mountBlob(reference(), digestOf(Buffer.from('x')), 'org-a/app'), false)
    assert.equal(tokens.asked.length, 1)
  })

  test('another token is requested when one does not suffice', async () => {
    registry.intercept = (request, response) => {
      if (request.headers.authorization === 'Bearer more') return false
      const isFirst = request.headers.authorization === undefined
      const more =
        'Bearer realm="http://HOST/token",error="insufficient_scope",scope="repository:team/app:pull,special"'
      const header = (isFirst ? challenge : more).replace('HOST', tokens.host)
      response.writeHead(isFirst ? 401 : 403, { 'www-authenticate': header }).end()
      return true
    }
    tokens.answer = ({ url }, response) => {
      const token = url.searchParams.get('scope')?.includes('special') === true ? 'more' : 'less'
      response.end(JSON.stringify({ token }))
    }
    await pull()
    assert.equal(tokens.asked.length, 2)
  })

  test('credentials of a repository go to that one alone, also from one client', async () => {
    const key = (user: string) => ({ auth: Buffer.from(`${user}:pw-${user}`).toString('base64') })
    const { host } = registry
    const credentials = credentialsFromConfig(
      JSON.stringify({
        auths: { [`${host}/org-a`]: key('a'), [`${host}/org-b`]: key('b'), [host]: key('host') },
      }),
    )
    const users = [
      ['org-a', 'a'],
      ['org-b', 'b'],
      ['org-bb', 'host'],
      ['team', 'host'],
    ] as const
    const seen = new Map<string, Set<string | undefined>>()
    tokens.answer = ({ authorization, url }, response) => {
      const token = Buffer.from(`${authorization} ${url.searchParams.get('scope')}`).toString('base64url')
      response.end(JSON.stringify({ token }))
    }
    for (const scheme of ['Bearer', 'Basic']) {
      await using client = createClient({ credentials })
      seen.clear()
      registry.intercept = (request, response) => {
        const repository = /^\/v2\/([^/]+)\//.exec(request.url ?? '')?.[1]
        const { authorization } = request.headers
        if (repository === undefined || authorization === undefined) {
          const scope = `repository:${repository}/app:pull`
          const header =
            scheme === 'Basic'
              ? 'Basic realm="r"'
              : `Bearer realm="http://${tokens.host}/token",scope="${scope}"`
          response.writeHead(401, { 'www-authenticate': header }).end()
          return true
        }
        const used = authorization.startsWith('Basic ')
          ? authorization
          : Buffer.from(authorization.replace('Bearer ', ''), 'base64url').toString()
        seen.set(repository, (seen.get(repository) ?? new Set()).add(used))
        return false
      }
      for (const [organisation] of [...users, ...users.toReversed()])
        await client.getManifest(reference(`${organisation}/app:1`))
      for (const [organisation, user] of users) {
        const own = basic(user, `pw-${user}`)
        const expected = scheme === 'Basic' ? own : `${own} repository:${organisation}/app:pull`
        assert.deepEqual([...(seen.get(organisation) ?? [])], [expected])
      }
    }
  })

  test('credentials that are refused are reported with the user and the file that they are from', async () => {
    const config = JSON.stringify({
      auths: { [registry.host]: { username: 'alice', password: 'wrong-password' } },
    })
    const credentials = credentialsFromConfig(config, '/home/alice/auth.json')
    const refusals: readonly (() => void)[] = [
      () => {
        tokens.answer = (_question, response) => response.writeHead(401).end()
      },
      () => {
        challenge = 'Basic realm="r"'
      },
    ]
    for (const refuse of refusals) {
      refuse()
      const { hint = '' } = await failure(pull({ credentials }), 'REGISTRY_UNAUTHORIZED')
      assert.ok(hint.includes('user alice') && hint.includes('/home/alice/auth.json'), hint)
      assert.ok(!hint.includes('wrong-password'))
    }
    const missing = credentialsFromConfig(
      JSON.stringify({ credsStore: 'not-there' }),
      '/home/alice/config.json',
    )
    const { hint = '' } = await failure(pull({ credentials: missing }), 'REGISTRY_UNAUTHORIZED')
    assert.ok(
      hint.includes('docker-credential-not-there') && hint.includes('credsStore in /home/alice/config.json'),
      hint,
    )
    const plain = await failure(pull(), 'REGISTRY_UNAUTHORIZED')
    assert.ok((plain.hint ?? '').includes('docker login'), plain.hint ?? '')
  })

  test('a failing token server is reported by its name, and not as a missing image', async () => {
    for (const [status, code] of [
      [404, 'REGISTRY_RESPONSE'],
      [403, 'REGISTRY_DENIED'],
      [418, 'REGISTRY_RESPONSE'],
    ] as const) {
      tokens.answer = (_question, response) => response.writeHead(status).end()
      const { message } = await failure(pull(), code)
      assert.ok(message.includes(`the token server ${tokens.host} answered ${status}`), message)
    }
  })

  describe('or one that says how to log in at /v2/ alone', () => {
    const credentials = credentialsOfUser('alice', 'secret!')
    const pings = () => registry.requests.filter((request) => request === 'GET /v2/').length

    for (const status of [401, 403, 404]) {
      test(`a registry that answers ${status} is asked for a login at /v2/ when there are credentials`, async () => {
        registry.intercept = (request, response) => {
          if (request.headers.authorization === basic('alice', 'secret!')) return false
          const isPing = request.url === '/v2/'
          response
            .writeHead(isPing ? 401 : status, isPing ? { 'www-authenticate': 'Basic realm="r"' } : {})
            .end()
          return true
        }
        await using client = createClient({ credentials })
        await client.getManifest(reference())
        await client.getManifest(reference('org-a/app:1'))
        await failure(client.getManifest(reference('org-a/app:2')), 'IMAGE_NOT_FOUND')
        assert.equal(pings(), 1)
      })
    }

    test('a registry that needs a token without a login is asked at /v2/, too', async () => {
      const refuse = registry.intercept
      registry.intercept = (request, response) => {
        if (request.headers.authorization !== undefined || request.url === '/v2/')
          return refuse(request, response)
        response.writeHead(401).end()
        return true
      }
      await pull()
    })

    test('a registry is not asked at /v2/ for a missing image without credentials', async () => {
      registry.intercept = () => false
      await using client = createClient()
      await client.getManifest(reference())
      const before = pings()
      await failure(client.getManifest(reference('none:1')), 'IMAGE_NOT_FOUND')
      assert.equal(pings(), before)
    })

    test('a registry that offers no login at /v2/ either is reported', async () => {
      registry.intercept = (_request, response) => {
        response.writeHead(401).end()
        return true
      }
      await failure(pull({ credentials }), 'REGISTRY_UNAUTHORIZED')
      registry.intercept = (_request, response) => {
        response.writeHead(401, { 'www-authenticate': 'Digest realm="r"' }).end()
        return true
      }
      await failure(pull({ credentials }), 'REGISTRY_RESPONSE')
    })
  })
})

describe('a registry elsewhere', () => {
  const asked: string[] = []
  let realm: string
  let redirect: string | undefined
  /** Target of the redirects of requests for images. */
  let target: string | undefined
  let proxy: Server
  let address: string

  // All requests go through a proxy, which decides the host by its name alone.
  beforeEach(async () => {
    asked.length = 0
    redirect = undefined
    target = undefined
    proxy = createServer((request, response) => {
      const url = new URL(request.url ?? '')
      asked.push(url.host)
      if (url.pathname.startsWith('/v2/') && request.headers.authorization === undefined)
        response.writeHead(401, { 'www-authenticate': `Bearer realm="${realm}",service="s"` }).end()
      else if (url.pathname.startsWith('/v2/') && target !== undefined)
        response.writeHead(307, { location: target }).end()
      else if (url.pathname.startsWith('/v2/') || url.pathname === '/storage') {
        response.setHeader('content-type', image.mediaType)
        response.end(image.manifest.bytes)
      } else if (url.host === 'tokens.example' && redirect !== undefined)
        response.writeHead(302, { location: redirect }).end()
      else response.end(JSON.stringify({ token: 'good' }))
    })
    await new Promise<void>((resolve) => {
      proxy.listen(0, '127.0.0.1', resolve)
    })
    address = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`
  })
  afterEach(() => {
    proxy.close()
    proxy.closeAllConnections()
  })

  const pull = async (registry = 'registry.example', options: Partial<RegistryClientOptions> = {}) => {
    const insecure = [registry, ...(options.insecure ?? [])]
    await using client = createClient({
      proxy: { httpProxy: address, httpsProxy: address, noProxy: '' },
      ...options,
      insecure,
    })
    return await client.getManifest(parseReference(`${registry}/app:1`))
  }
  const NEAR = [
    ...[
      '169.254.169.254',
      '10.1.2.3',
      '192.168.0.1:8080',
      '100.100.100.200',
      '0xa9fea9fe',
      '0',
      '127.1',
      '2130706433',
    ],
    ...[
      '[::ffff:169.254.169.254]',
      '[::1]',
      '[fd00::1]',
      '[fe80::1]',
      '[64:ff9b::a9fe:a9fe]',
      '[2002:a9fe:a9fe::1]',
    ],
    ...['localhost', 'localhost.', 'x.localhost', '[::]', '[::7f00:1]'],
  ]

  test('a registry may not redirect to a private address for tokens, in any notation, and the hint names the setting', async () => {
    for (const near of NEAR) {
      for (const isRedirect of [false, true]) {
        asked.length = 0
        redirect = isRedirect ? `http://${near}/token` : undefined
        realm = isRedirect ? 'http://tokens.example/' : `http://${near}/token`
        const { message, hint = '' } = await failure(pull(), 'REGISTRY_RESPONSE')
        const host = new URL(`http://${near}`).host
        assert.ok(message.includes(host), message)
        assert.ok(hint.includes(`--private_token_servers=${host}`), hint)
        const elsewhere = asked.filter((one) => one !== 'registry.example' && one !== 'tokens.example')
        assert.deepEqual(elsewhere, [], near)
      }
    }
  })

  test('a registry may not redirect requests to a private address, in any notation, and the hint names the setting', async () => {
    realm = 'http://tokens.example/'
    const names = ['metadata', 'metadata.google.internal', 'printer.local.', 'a.home.arpa', 'router.lan']
    for (const near of [...NEAR, ...names]) {
      asked.length = 0
      target = `http://${near}/storage`
      const { message, hint = '' } = await failure(pull(), 'REGISTRY_RESPONSE')
      const host = new URL(target).host
      assert.ok(message.includes(`redirects to ${host}`), message)
      assert.ok(hint.includes(`--private_redirects=${host}`), hint)
      assert.deepEqual(new Set(asked), new Set(['registry.example', 'tokens.example']), near)
    }
    for (const near of names) {
      target = undefined
      realm = `http://${near}/token`
      await failure(pull(), 'REGISTRY_RESPONSE')
    }
  })

  test('a registry may redirect requests to a public address, to a private one that is named, and between private ones', async () => {
    realm = 'http://tokens.example/'
    target = 'http://storage.example/storage'
    await pull()
    target = 'http://10.1.2.3:9000/storage'
    await failure(pull(), 'REGISTRY_RESPONSE')
    await failure(pull('registry.example', { privateTokenServers: ['10.1.2.3:9000'] }), 'REGISTRY_RESPONSE')
    await pull('registry.example', { privateRedirects: ['10.1.2.3:9000'] })
    await pull('registry.example', { insecure: ['10.1.2.3:9000'] })
    for (const registry of ['10.9.9.9:5000', 'harbor:5000', 'registry.corp.internal']) {
      await pull(registry)
      target = 'http://127.1/storage'
      await failure(pull(registry), 'REGISTRY_RESPONSE')
      target = 'http://10.1.2.3:9000/storage'
    }
  })

  test('a registry may use a token server at a public address, and at a private one that is named', async () => {
    realm = 'http://tokens.example/'
    await pull()
    realm = 'http://10.1.2.3:8080/token'
    await failure(pull(), 'REGISTRY_RESPONSE')
    for (const options of [
      { privateTokenServers: ['10.1.2.3:8080'] },
      { privateTokenServers: ['10.1.2.3'] },
      { insecure: ['10.1.2.3:8080'] },
    ]) {
      asked.length = 0
      await pull('registry.example', options)
      assert.ok(asked.includes('10.1.2.3:8080'))
    }
    await failure(
      pull('registry.example', { privateTokenServers: ['10.1.2.3:9090', '10.1.2'] }),
      'REGISTRY_RESPONSE',
    )
  })

  test('a registry at a private address may redirect to another one, but not nearer to this machine', async () => {
    for (const registry of ['10.9.9.9:5000', 'harbor:5000', '[fd00::9]:5000']) {
      realm = 'http://10.1.2.3/token'
      await pull(registry)
      for (const near of ['169.254.169.254', '127.1', 'localhost.']) {
        realm = `http://${near}/token`
        await failure(pull(registry), 'REGISTRY_RESPONSE')
      }
    }
  })
})

describe('scopes', () => {
  const rows: readonly (readonly [
    needed: string,
    challenged: string | undefined,
    asked: readonly string[],
  ])[] = [
    ['repository:a/b:pull', undefined, ['repository:a/b:pull']],
    ['repository:a/b:pull', '', ['repository:a/b:pull']],
    ['repository:a/b:pull', 'repository:a/b:pull', ['repository:a/b:pull']],
    ['repository:a/b:pull', 'repository:a/b:pull,push', ['repository:a/b:pull,push']],
    ['repository:a/b:pull,push', 'repository:a/b:pull', ['repository:a/b:pull,push']],
    ['repository:a/b:pull,push', 'repository:a/b:*', ['repository:a/b:*,pull,push']],
    ['repository:b:pull,push', 'repository:virtual/b:pull', ['repository:virtual/b:pull,push']],
    ['repository:b:pull', 'repository:host:5000/b:pull', ['repository:host:5000/b:pull']],
    ['repository:b:pull', 'registry:catalog:*', ['repository:b:pull']],
    ['repository:b:pull', 'aws', ['repository:b:pull']],
    ['repository:b:pull', 'repository(plugin):b:pull', ['repository(plugin):b:pull']],
    [
      'repository:b:pull,push',
      'repository:b:pull repository:c:pull',
      ['repository:b:pull,push', 'repository:c:pull'],
    ],
    [
      'repository:b:pull,push repository:c:pull',
      'repository:b:push',
      ['repository:b:push,pull', 'repository:c:pull'],
    ],
    ['', 'repository:b:pull', ['repository:b:pull']],
    ['', undefined, []],
  ]
  test('the scopes of a token are those of the challenge and of all that the operation needs', () => {
    assert.deepEqual(
      rows.map(([needed, challenged]) => [needed, challenged, scopesToAsk(needed, challenged)]),
      rows,
    )
  })
})

describe('challenges in several headers and odd forms', () => {
  const rows: readonly (readonly [headers: readonly string[], scheme: string, realm: string | undefined])[] =
    [
      [['Basic realm="x"', 'Bearer realm="https://t/"'], 'bearer', 'https://t/'],
      [['Negotiate', 'NTLM', 'Basic realm=x'], 'basic', 'x'],
      [['Negotiate YII=, Bearer realm="https://t/"'], 'bearer', 'https://t/'],
      [['Negotiate a/b+c==, BEARER REALM="https://t/" , Service = s'], 'bearer', 'https://t/'],
      [['bearer realm=https://t/token?a=b,service=reg.example:5000'], 'bearer', 'https://t/token?a=b'],
      [['Bearer realm="https://t/" service="s"'], 'bearer', 'https://t/'],
      [['Bearer error="x", Basic realm="r"'], 'basic', 'r'],
      [['Bearer service="s"', 'Basic realm="r"'], 'basic', 'r'],
      [['Digest realm="d", nonce="n", Basic realm="r"'], 'basic', 'r'],
      [[',, Basic'], 'basic', undefined],
    ]
  for (const [headers, scheme, realm] of rows) {
    test(`challenges are read: ${headers.join(' | ')}`, () => {
      const found = parseChallenges(headers)
      assert.deepEqual([found.scheme, found.parameters.get('realm')], [scheme, realm])
    })
  }
})
