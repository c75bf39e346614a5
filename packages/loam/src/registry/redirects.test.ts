import assert from 'node:assert/strict'
import { type IncomingMessage, createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { type ErrorCode, isLoamError } from '../errors/index.ts'
import { type Descriptor, digestOf, parseReference } from '../image/index.ts'
import { credentialsOfUser, FileClient, RegistryClient } from './index.ts'
import { isRedirect, resolveAddress } from './redirects.ts'
import { Transport } from './transport.ts'

const CONTENT = Buffer.from('what is uploaded')
const BLOB: Descriptor = { mediaType: 'x/y', digest: digestOf(CONTENT), sizeBytes: CONTENT.length }
const PASSWORD = `Basic ${Buffer.from('alice:secret!').toString('base64')}`

interface Asked {
  readonly method: string
  readonly url: string
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

/** A server that records its requests, and answers with `answer`. */
class Host {
  readonly asked: Asked[] = []
  answer: (asked: Asked, response: ServerResponse) => void = (_asked, response) =>
    response.writeHead(404).end()
  readonly #server: Server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const { method = '', url = '', headers } = request
      const asked = { method, url, headers, body: Buffer.concat(chunks).toString() }
      this.asked.push(asked)
      this.answer(asked, response)
    })
  })

  async start(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.listen(0, '127.0.0.1', resolve)
    })
  }

  get name(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  stop(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }
}

const network = {
  insecure: [],
  certsDirs: [],
  proxy: { httpProxy: '', httpsProxy: '', noProxy: '' },
  stallTimeoutMs: 5000,
  connectTimeoutMs: 5000,
  retry: { tries: 3, baseMs: 5, waitMs: 2500 },
}

const rejects = async (act: Promise<unknown>, code: ErrorCode, words = '') => {
  await assert.rejects(act, (error) => {
    assert.ok(isLoamError(error, code), String(error))
    assert.ok(`${error.message} ${error.hint ?? ''}`.includes(words), error.message)
    return true
  })
}

describe('requests that are sent elsewhere', () => {
  let registry: Host
  let storage: Host
  let client: RegistryClient
  const reference = () => parseReference(`${registry.name}/team/app:1`)
  const upload = async () => client.putBlob(reference(), BLOB, () => Readable.from([CONTENT]))

  beforeEach(async () => {
    registry = new Host()
    storage = new Host()
    await Promise.all([registry.start(), storage.start()])
    client = new RegistryClient({
      ...network,
      credentials: credentialsOfUser('alice', 'secret!'),
      manifestBytes: 1 << 20,
    })
  })
  afterEach(async () => {
    await client[Symbol.asyncDispose]()
    registry.stop()
    storage.stop()
  })

  /** Makes the registry require a password. */
  const registryAnswers = (answer: Host['answer']) => {
    registry.answer = (asked, response) => {
      if (asked.headers.authorization === PASSWORD) answer(asked, response)
      else response.writeHead(401, { 'www-authenticate': 'Basic realm="r"' }).end()
    }
  }

  for (const status of [301, 302, 303, 307, 308]) {
    test(`a blob is found by HEAD behind a redirect by ${status}, without the password`, async () => {
      registryAnswers((asked, response) =>
        response.writeHead(status, { location: `http://${storage.name}/b${asked.url}?sig=a%2Fb` }).end(),
      )
      storage.answer = (_asked, response) => response.writeHead(200, { 'content-length': '5' }).end()
      assert.equal(await client.hasBlob(reference(), BLOB.digest), true)
      const [seen] = storage.asked
      assert.equal(seen?.method, 'HEAD')
      assert.equal(seen.url, `/b/v2/team/app/blobs/${BLOB.digest}?sig=a%2Fb`)
      assert.equal(seen.headers.authorization, undefined)
      for (const [absent, isThere] of [
        [403, false],
        [404, false],
        [204, true],
      ] as const) {
        storage.answer = (_asked, response) => response.writeHead(absent).end()
        assert.equal(await client.hasBlob(reference(), BLOB.digest), isThere)
      }
    })
  }

  test('only the registry itself denies access, and not the storage that it redirects to', async () => {
    registryAnswers((_asked, response) => response.writeHead(403).end())
    await rejects(client.hasBlob(reference(), BLOB.digest), 'REGISTRY_DENIED')
    registryAnswers((_asked, response) =>
      response.writeHead(307, { location: `http://${storage.name}/x` }).end(),
    )
    storage.answer = (_asked, response) => response.writeHead(403).end()
    await rejects(client.getManifest(reference()), 'REGISTRY_RESPONSE', storage.name)
  })

  for (const status of [301, 302, 307, 308]) {
    test(`an upload is redirected by ${status} with its method and body, for POST, PUT and manifests`, async () => {
      registryAnswers((asked, response) => {
        const location = `http://${storage.name}${asked.url}`
        response.writeHead(status, { location }).end()
      })
      storage.answer = (asked, response) => {
        if (asked.method === 'POST') response.writeHead(202, { location: 'session?state=x' }).end()
        else response.writeHead(201).end()
      }
      await upload()
      await client.putManifest(reference(), 'a/b', Buffer.from('{}'))
      assert.deepEqual(
        storage.asked.map(({ method, url, body }) => ({ method, url, body })),
        [
          { method: 'POST', url: '/v2/team/app/blobs/uploads/', body: '' },
          {
            method: 'PUT',
            url: `/v2/team/app/blobs/uploads/session?state=x&digest=${encodeURIComponent(BLOB.digest)}`,
            body: CONTENT.toString(),
          },
          { method: 'PUT', url: '/v2/team/app/manifests/1', body: '{}' },
        ],
      )
      assert.ok(storage.asked.every(({ headers }) => headers.authorization === undefined))
    })
  }

  test('a request that is redirected in a circle, to no address, or to another scheme than http(s) fails', async () => {
    for (const location of [
      '/v2/team/app/manifests/1',
      undefined,
      'http://[',
      'ftp://x/',
      'file:///etc/passwd',
    ]) {
      registryAnswers((_asked, response) =>
        response.writeHead(307, location === undefined ? {} : { location }).end(),
      )
      await rejects(client.getManifest(reference()), 'REGISTRY_RESPONSE')
    }
    registryAnswers((_asked, response) => response.writeHead(303, { location: '/' }).end())
    await rejects(upload(), 'REGISTRY_RESPONSE', '303')
  })

  test('a request stays with the server that has answered, whatever its name resolves to later', async (t) => {
    await using files = new FileClient(network)
    registry.answer = ({ url }, response) =>
      url === '/f' ? response.writeHead(302, { location: '/near' }).end() : response.end('of this machine')
    const get = async () => files.get(new URL(`http://${registry.name}/f`), 100)
    assert.equal((await get()).bytes.toString(), 'of this machine')
    registry.asked.length = 0
    t.mock.method(Transport.prototype, 'reachOf', () => 'public')
    await rejects(get(), 'REGISTRY_RESPONSE', 'private address')
    assert.deepEqual(
      registry.asked.map(({ url }) => url),
      ['/f'],
    )
  })

  test('a request for a file follows redirects to any host', async () => {
    await using files = new FileClient(network)
    registry.answer = (asked, response) =>
      response.writeHead(302, { location: `http://${storage.name}/there${asked.url}` }).end()
    storage.answer = (_asked, response) => response.writeHead(200).end('file')
    const got = await files.get(new URL(`http://${registry.name}/f?x=1`), 100)
    assert.equal(got.bytes.toString(), 'file')
    assert.equal(storage.asked[0]?.url, '/there/f?x=1')
  })

  describe('uploads', () => {
    const digest = encodeURIComponent(BLOB.digest)
    const locations = (): readonly (readonly [location: string, url: string, isElsewhere: boolean])[] => [
      ['/upload/1', `/upload/1?digest=${digest}`, false],
      [
        '1?_state=a%2Fb%20c+d~e&x',
        `/v2/team/app/blobs/uploads/1?_state=a%2Fb%20c+d~e&x&digest=${digest}`,
        false,
      ],
      [`http://${registry.name}/u`, `/u?digest=${digest}`, false],
      [`//${storage.name}/u?s=1`, `/u?s=1&digest=${digest}`, true],
      [`http://user:pw@${storage.name}/u#part`, `/u?digest=${digest}`, true],
    ]

    test('an upload goes to the address that the registry names, on any host, with its query unchanged', async () => {
      for (const [location, url, isElsewhere] of locations()) {
        registryAnswers((asked, response) => {
          if (asked.method === 'POST') response.writeHead(202, { location }).end()
          else response.writeHead(201).end()
        })
        storage.answer = (_asked, response) => response.writeHead(201).end()
        await upload()
        const seen = (isElsewhere ? storage : registry).asked.at(-1)
        assert.equal(seen?.url, url)
        assert.equal(seen.body, CONTENT.toString())
        assert.equal(seen.headers.authorization, isElsewhere ? undefined : PASSWORD)
      }
    })

    test('an upload succeeds by any status of success', async () => {
      for (const status of [200, 201, 202, 204]) {
        registryAnswers((_asked, response) => response.writeHead(status, { location: '/u' }).end())
        await upload()
        await client.putManifest(reference(), 'a/b', Buffer.from('{}'))
      }
    })

    test('an upload of a manifest that the registry stores with another digest fails', async () => {
      const answer = (stated: string) =>
        registryAnswers((_asked, response) =>
          response.writeHead(201, { 'docker-content-digest': stated }).end(),
        )
      for (const fine of [digestOf(Buffer.from('{}')), digestOf(Buffer.from('{}'), 'sha512'), 'what?']) {
        answer(fine)
        await client.putManifest(reference(), 'a/b', Buffer.from('{}'))
      }
      answer(BLOB.digest)
      await rejects(client.putManifest(reference(), 'a/b', Buffer.from('{}')), 'DIGEST_MISMATCH', BLOB.digest)
    })

    test('an upload starts again after a failure, with another address and all bytes', async () => {
      const failures = [503, 429, 'cut'] as const
      for (const failure of failures) {
        let begun = 0
        registryAnswers((asked, response) => {
          if (asked.method === 'POST') {
            begun += 1
            response.writeHead(202, { location: `/u/${begun}` }).end()
          } else if (begun === 2) response.writeHead(201).end()
          else if (failure === 'cut') response.destroy()
          else response.writeHead(failure, { 'retry-after': '0' }).end()
        })
        await upload()
        assert.equal(begun, 2, String(failure))
        assert.equal(registry.asked.at(-1)?.url, `/u/2?digest=${digest}`)
        assert.equal(registry.asked.at(-1)?.body, CONTENT.toString())
      }
    })

    test('an upload uses PATCH where a registry refuses a blob by PUT', async () => {
      for (const status of [405, 501]) {
        registry.asked.length = 0
        registryAnswers((asked, response) => {
          if (asked.method === 'POST') response.writeHead(202, { location: '/u/1' }).end()
          else if (asked.method === 'PATCH')
            response.writeHead(202, { location: '/u/2?s=1', range: '0-15' }).end()
          else if (asked.body === '') response.writeHead(201).end()
          else response.writeHead(status).end()
        })
        await upload()
        const [patch, put] = registry.asked.slice(-2)
        assert.deepEqual([patch?.method, patch?.url, patch?.body], ['PATCH', '/u/1', CONTENT.toString()])
        assert.deepEqual([put?.method, put?.url, put?.body], ['PUT', `/u/2?s=1&digest=${digest}`, ''])
      }
    })

    test('an upload has one retry budget, wherever a server asks to wait', async () => {
      for (const busy of ['POST', 'PUT', 'PATCH']) {
        registry.asked.length = 0
        registryAnswers((asked, response) => {
          if (asked.method === busy) response.writeHead(429, { 'retry-after': '1' }).end()
          else if (asked.method === 'POST') response.writeHead(202, { location: '/u/1' }).end()
          else response.writeHead(busy === 'PATCH' ? 405 : 500).end()
        })
        await rejects(upload(), 'REGISTRY_RATE_LIMITED')
        const asked = registry.asked.filter(
          ({ method, headers }) => method === busy && headers.authorization !== undefined,
        )
        assert.equal(asked.length, 3, busy)
      }
    })

    test('an upload to a registry that refuses pushes says so', async () => {
      registryAnswers((_asked, response) => response.writeHead(405).end())
      await rejects(upload(), 'REGISTRY_DENIED', 'uploads are not allowed')
      registryAnswers((_asked, response) => response.writeHead(404).end())
      await rejects(upload(), 'IMAGE_NOT_FOUND', 'Create the repository team/app')
    })

    test('an upload is skipped where the registry mounts the blob from another repository, and done where it does not', async () => {
      registryAnswers((_asked, response) => response.writeHead(201, { location: '/v2/x' }).end())
      assert.equal(await client.mountBlob(reference(), BLOB.digest, 'other/app', undefined), true)
      const query = new URLSearchParams({ mount: BLOB.digest, from: 'other/app' })
      assert.equal(registry.asked.at(-1)?.url, `/v2/team/app/blobs/uploads/?${query.toString()}`)
      registryAnswers((_asked, response) => response.writeHead(202, { location: '/u/7' }).end())
      assert.equal(await client.mountBlob(reference(), BLOB.digest, 'other/app'), false)
      assert.deepEqual([registry.asked.at(-1)?.method, registry.asked.at(-1)?.url], ['DELETE', '/u/7'])
      registryAnswers((_asked, response) => response.writeHead(202, { location: 'http://[' }).end())
      assert.equal(await client.mountBlob(reference(), BLOB.digest, 'other/app'), false)
      for (const status of [200, 204, 400, 401, 403, 404, 405, 416]) {
        registryAnswers((_asked, response) => response.writeHead(status).end())
        assert.equal(await client.mountBlob(reference(), BLOB.digest, 'other/app'), false, String(status))
      }
    })
  })
})

describe('a file that a page names', () => {
  test('a file that a page names is not fetched from an address nearer than the page, unless that is allowed', async () => {
    const host = new Host()
    await host.start()
    host.answer = (_asked, response) => response.end('x')
    const proxy = { httpProxy: `http://${host.name}`, httpsProxy: '', noProxy: '' }
    const fetch = async (page: string | undefined, privateRedirects: readonly string[] = []) => {
      await using files = new FileClient({ ...network, proxy, privateRedirects })
      const named = page === undefined ? undefined : new URL(page)
      let text = ''
      for await (const chunk of files.stream(new URL('http://10.1.2.3/x'), undefined, { namedBy: named }))
        text += chunk.toString()
      return text
    }
    try {
      await rejects(fetch('http://pages.example/'), 'REGISTRY_RESPONSE', '--private_redirects=10.1.2.3')
      assert.deepEqual(host.asked, [])
      for (const answer of [
        await fetch(undefined),
        await fetch('http://10.9.9.9/'),
        await fetch('http://pages.example/', ['10.1.2.3']),
      ])
        assert.equal(answer, 'x')
    } finally {
      host.stop()
    }
  })
})

describe('the address that a server names', () => {
  const rulesOf = (host: string) => ({
    tls: { ca: [], client: undefined, skipVerify: false },
    mayBePlain: host === 'plain.example',
    mayBePrivate: false,
    mayBePrivateTarget: false,
  })
  const resolve = (location: string, from = 'https://reg.example:5000/v2/a/b') =>
    resolveAddress(location, new URL(from), { attempted: 'get x', rulesOf }).href

  test('a redirect from TLS stays with TLS, but for hosts that may be plain', () => {
    assert.equal(resolve('https://s3.example/x?y'), 'https://s3.example/x?y')
    assert.equal(resolve('http://plain.example/x'), 'http://plain.example/x')
    assert.equal(resolve('http://s3.example/x', 'http://reg.example/'), 'http://s3.example/x')
    // A registry behind a proxy that terminates TLS.
    assert.equal(resolve('http://reg.example:5000/x'), 'https://reg.example:5000/x')
    assert.equal(resolve('http://reg.example/x', 'https://reg.example/'), 'https://reg.example/x')
    assert.throws(
      () => resolve('http://s3.example:9000/x'),
      (error) =>
        isLoamError(error, 'REGISTRY_RESPONSE') && (error.hint ?? '').includes('--insecure s3.example:9000'),
    )
  })

  test('a redirect is relative to the address that was asked', () => {
    assert.equal(resolve('c'), 'https://reg.example:5000/v2/a/c')
    assert.equal(resolve('/c?d'), 'https://reg.example:5000/c?d')
    assert.equal(resolve('?d=e'), 'https://reg.example:5000/v2/a/b?d=e')
  })

  test('a redirect is followed for every status that keeps the method', () => {
    for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH'] as const)
      for (const status of [301, 302, 307, 308]) assert.ok(isRedirect(status, method))
    assert.ok(isRedirect(303, 'GET') && isRedirect(303, 'HEAD') && !isRedirect(303, 'PUT'))
    for (const status of [200, 300, 304, 305, 306, 404]) assert.ok(!isRedirect(status, 'GET'))
  })
})
