import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { type Descriptor, digestOf, MEDIA_TYPES, parseReference } from '../image/index.ts'
import { buildImage, buildTar, type Interceptor, RegistryServer } from '../testing/index.ts'
import { findEndpoints } from './endpoints.ts'
import type { CredentialSource } from './credentials.ts'
import { RegistryClient } from './index.ts'

const image = buildImage({
  tars: [buildTar([{ name: 'f', data: Buffer.alloc(400_000, 'x') }])],
  compression: 'none',
})
const bytes = image.layers[0]?.bytes ?? Buffer.alloc(0)
const blob: Descriptor = {
  mediaType: 'application/vnd.oci.image.layer.v1.tar',
  digest: digestOf(bytes),
  sizeBytes: bytes.length,
}
const HOST = 'registry.test'
const byTag = parseReference(`${HOST}/app:1`)
const byDigest = parseReference(`${HOST}/app@${image.manifest.digest}`)

describe('the registry itself in hosts.toml', () => {
  const find = (registry: string, text: string) => {
    const certs = mkdtempSync(join(tmpdir(), 'loam-hosts-'))
    try {
      mkdirSync(join(certs, '_default'))
      writeFileSync(join(certs, '_default', 'hosts.toml'), text)
      writeFileSync(join(certs, '_default', 'ca.pem'), 'a CA')
      return findEndpoints(registry, { certsDirs: [certs], insecure: [] })
    } finally {
      rmSync(certs, { recursive: true })
    }
  }
  const shown = (registry: string, text: string) =>
    find(registry, text).map(({ base, isMirror, namespace }) => [
      base,
      isMirror ? 'mirror' : 'own',
      namespace,
    ])

  test('the parameter ns is sent to each host that is not the registry, whichever line names it', () => {
    const cases = [
      ['', [['https://registry.example/v2', 'own', undefined]]],
      ['server = "https://proxy.test"', [['https://proxy.test/v2', 'own', 'registry.example']]],
      ['server = "https://REGISTRY.example:443/"', [['https://registry.example/v2', 'own', undefined]]],
      [
        'server = "https://registry.example:444"',
        [['https://registry.example:444/v2', 'own', 'registry.example']],
      ],
      [
        'server = "https://a.test"\n[host."https://b.test"]\n[host."http://registry.example"]\n',
        [
          ['https://b.test/v2', 'mirror', 'registry.example'],
          ['http://registry.example/v2', 'mirror', undefined],
          ['https://a.test/v2', 'own', 'registry.example'],
        ],
      ],
    ] as const
    for (const [text, expected] of cases) assert.deepEqual(shown('registry.example', text), expected, text)
    assert.deepEqual(shown('docker.io', 'server = "https://registry-1.docker.io"'), [
      ['https://registry-1.docker.io/v2', 'own', undefined],
    ])
  })

  test('a table of the registry itself has settings of the registry, and no mirror', () => {
    const table = '[host."https://registry.example"]\nca = "ca.pem"\ndial_timeout = "2s"\n'
    for (const server of ['', 'server = "https://registry.example"\n']) {
      for (const capabilities of [
        '',
        'capabilities = ["pull", "resolve", "push"]\n',
        'capabilities = ["push"]\n',
      ]) {
        const endpoints = find('registry.example', `${server}skip_verify = true\n${table}${capabilities}`)
        assert.deepEqual(
          endpoints.map(({ isMirror, namespace, tls, connectTimeoutMs }) => ({
            isMirror,
            namespace,
            tls,
            connectTimeoutMs,
          })),
          [
            {
              isMirror: false,
              namespace: undefined,
              tls: { ca: ['a CA'], client: undefined, skipVerify: true },
              connectTimeoutMs: 2000,
            },
          ],
        )
      }
    }
    const plain = '[host."http://registry.example"]\n[host."https://mirror.test"]\n'
    assert.deepEqual(shown('registry.example', plain), [
      ['http://registry.example/v2', 'own', undefined],
      ['https://mirror.test/v2', 'mirror', 'registry.example'],
    ])
    const cache = '[host."https://registry.example/v2/cache"]\noverride_path = true\n'
    assert.deepEqual(shown('registry.example', cache), [
      ['https://registry.example/v2/cache', 'mirror', undefined],
      ['https://registry.example/v2', 'own', undefined],
    ])
    const proxy =
      'server = "https://harbor.test"\n[host."https://harbor.test/v2/hub"]\noverride_path = true\n'
    assert.deepEqual(shown('docker.io', proxy), [
      ['https://harbor.test/v2/hub', 'mirror', 'docker.io'],
      ['https://harbor.test/v2', 'own', 'docker.io'],
    ])
    const last = '[host."https://registry.example"]\ncapabilities = ["push"]\n[host."https://mirror.test"]\n'
    assert.deepEqual(shown('registry.example', last), [
      ['https://mirror.test/v2', 'mirror', 'registry.example'],
      ['https://registry.example/v2', 'own', undefined],
    ])
  })
})

describe('mirrors of hosts.toml', () => {
  let certs: string
  let server: RegistryServer
  let mirror: RegistryServer
  const waits: string[] = []

  beforeEach(async () => {
    certs = mkdtempSync(join(tmpdir(), 'loam-mirrors-'))
    server = await RegistryServer.start()
    mirror = await RegistryServer.start()
    for (const registry of [server, mirror]) registry.addImage('app', '1', image)
    waits.length = 0
  })
  afterEach(async () => {
    await server[Symbol.asyncDispose]()
    await mirror[Symbol.asyncDispose]()
    rmSync(certs, { recursive: true })
  })

  /** Writes a hosts.toml with one mirror, as Spegel and Dragonfly do. */
  const writeHosts = (host: string, lines = "capabilities = ['pull', 'resolve']", folder = HOST) => {
    mkdirSync(join(certs, folder), { recursive: true })
    writeFileSync(
      join(certs, folder, 'hosts.toml'),
      `server = 'http://${server.host}'\n\n[host.'http://${host}']\n${lines}\n`,
    )
  }

  const createClient = (options: { connectTimeoutMs?: number; credentials?: CredentialSource } = {}) =>
    new RegistryClient({
      credentials: { find: async () => undefined },
      manifestBytes: 4 << 20,
      insecure: [],
      certsDirs: [certs],
      proxy: { httpProxy: '', httpsProxy: '', noProxy: '' },
      stallTimeoutMs: 5000,
      connectTimeoutMs: 5000,
      retry: {
        tries: 4,
        baseMs: 5,
        waitMs: 2500,
        onWait: ({ reason }) => void waits.push(reason),
      },
      ...options,
    })

  test('a server on another host gets the credentials of that host alone', async () => {
    mkdirSync(join(certs, HOST), { recursive: true })
    writeFileSync(join(certs, HOST, 'hosts.toml'), `server = 'http://${server.host}'\n`)
    const asked: string[] = []
    server.intercept = (_request, response) => {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end()
      return true
    }
    await using client = createClient({
      credentials: {
        find: async (registry) => {
          asked.push(registry)
          return undefined
        },
      },
    })
    await assert.rejects(client.getManifest(byTag))
    assert.deepEqual([...new Set(asked)], [server.host])
    assert.ok(
      server.requests.every((request) => request.endsWith(`?ns=${HOST}`)),
      String(server.requests),
    )
  })

  const fetchBlob = async (client: RegistryClient) => {
    const chunks: Buffer[] = []
    for await (const chunk of client.streamBlob(byDigest, blob)) chunks.push(chunk)
    return Buffer.concat(chunks)
  }
  const rangesOf = (registry: RegistryServer) =>
    registry.headers.filter(({ path }) => path.includes('/blobs/')).map(({ headers }) => headers.range)

  /** Sends `count` bytes of what is asked for, and closes the connection. */
  const dieAfter =
    (count: number): Interceptor =>
    (request, response) => {
      if (request.url?.includes('/blobs/') !== true) return false
      const start = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0)
      response.writeHead(start === 0 ? 200 : 206, {
        'content-length': bytes.length - start,
        'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}`,
      })
      response.write(bytes.subarray(start, start + count), () => {
        setTimeout(() => response.destroy(), 5)
      })
      return true
    }

  test('a mirror that dies in the middle of a blob is replaced by the next host, from the same byte and without a wait', async () => {
    mirror.intercept = dieAfter(100_000)
    writeHosts(mirror.host)
    await using client = createClient()
    assert.ok((await fetchBlob(client)).equals(bytes))
    assert.deepEqual([rangesOf(mirror), rangesOf(server)], [[undefined], ['bytes=100000-']])
    assert.deepEqual(waits, [])
  })

  test('a 404, a busy or a broken mirror falls through at once', async () => {
    writeHosts(mirror.host)
    for (const [status, headers] of [
      [404, {}],
      [500, {}],
      [429, { 'retry-after': '60' }],
      [403, {}],
    ] as const) {
      mirror.requests.length = 0
      mirror.intercept = (_request, response) => {
        response.writeHead(status, headers).end()
        return true
      }
      await using client = createClient()
      assert.equal((await client.getManifest(byTag)).digest, image.manifest.digest)
      assert.ok((await fetchBlob(client)).equals(bytes))
      assert.equal(mirror.requests.length, 2, String(status))
    }
    assert.deepEqual(waits, [])
  })

  test('a mirror that answers a tag with anything but a manifest falls through', async () => {
    writeHosts(mirror.host)
    for (const [type, body] of [
      ['text/html', '<html>Log in</html>'],
      [image.mediaType, '<html>Log in</html>'],
      ['application/json', '{"errors":[{"code":"UNAVAILABLE"}]}'],
      ['application/json', 'null'],
      ['application/json', ''],
    ] as const) {
      mirror.intercept = (_request, response) => {
        response.writeHead(200, { 'content-type': type }).end(body)
        return true
      }
      await using client = createClient()
      assert.equal((await client.getManifest(byTag)).digest, image.manifest.digest, body)
    }
    assert.deepEqual(waits, [])
    server.intercept = mirror.intercept
    await using client = createClient()
    await assert.rejects(client.getManifest(byTag), { code: 'DOCUMENT_INVALID', message: /before that/ })
  })

  test('a mirror without "resolve" is asked for digests, and not which image a tag names', async () => {
    writeHosts(mirror.host, "capabilities = ['pull']")
    await using client = createClient()
    await client.getManifest(byTag)
    assert.deepEqual(mirror.requests, [])
    await client.getManifest(byDigest)
    await fetchBlob(client)
    assert.deepEqual(
      mirror.requests,
      [`manifests/${image.manifest.digest}`, `blobs/${blob.digest}`].map(
        (path) => `GET /v2/app/${path}?ns=${HOST}`,
      ),
    )
    assert.equal(server.requests.length, 1)
  })

  test('headers and the whole path of a mirror are used, also from _default', async () => {
    writeHosts(
      `${mirror.host}/v2/cache`,
      `capabilities = ['pull', 'resolve']\ndial_timeout = '200ms'\noverride_path = true\n[host.'http://${mirror.host}/v2/cache'.header]\nX-Dragonfly-Registry = 'https://${HOST}'`,
      '_default',
    )
    await using client = createClient()
    await client.getManifest(byTag)
    assert.deepEqual(mirror.requests, [`GET /v2/cache/app/manifests/1?ns=${HOST}`])
    assert.equal(mirror.headers[0]?.headers['x-dragonfly-registry'], `https://${HOST}`)
    assert.equal(server.headers[0]?.headers['x-dragonfly-registry'], undefined)
  })

  test('without the registry itself, a mirror that fails for a moment is asked again', async () => {
    let asked = 0
    mirror.intercept = (request, response) => {
      asked += 1
      if (asked <= 2) response.writeHead(503).end()
      else if (asked <= 6) return dieAfter(50_000)(request, response)
      else return false
      return true
    }
    writeHosts(mirror.host)
    await server[Symbol.asyncDispose]()
    await using client = createClient()
    assert.ok((await fetchBlob(client)).equals(bytes))
    assert.equal(rangesOf(mirror).at(-1), 'bytes=200000-')
    server = await RegistryServer.start()
  })

  test('a blob that is requested once more from its start comes from another host than the mirror that sent it', async () => {
    mirror.setBlob(blob.digest, Buffer.alloc(bytes.length, 'y'))
    writeHosts(mirror.host)
    await using client = createClient()
    assert.ok(!(await fetchBlob(client)).equals(bytes))
    assert.ok((await fetchBlob(client)).equals(bytes))
  })

  test('with bad data on several mirrors, the second request already comes from the registry', async () => {
    const other = await RegistryServer.start()
    try {
      for (const registry of [mirror, other]) {
        registry.addImage('app', '1', image)
        registry.setBlob(blob.digest, Buffer.alloc(bytes.length, 'y'))
      }
      writeHosts(mirror.host, `[host.'http://${other.host}']`)
      await using client = createClient()
      assert.ok(!(await fetchBlob(client)).equals(bytes))
      assert.ok((await fetchBlob(client)).equals(bytes))
      server.intercept = (request, response) => {
        if (request.url?.includes('/blobs/') !== true) return false
        response.writeHead(404).end()
        return true
      }
      other.setBlob(blob.digest, bytes)
      // The registry has lost it: then mirrors that have not sent it come before one that has.
      assert.ok((await fetchBlob(client)).equals(bytes))
    } finally {
      await other[Symbol.asyncDispose]()
    }
  })

  test('an error names what each mirror answered', async () => {
    for (const registry of [mirror, server]) {
      registry.intercept = (_request, response) => {
        response.writeHead(404).end()
        return true
      }
    }
    writeHosts(mirror.host)
    await using client = createClient()
    await assert.rejects(client.getManifest(byTag), (error) => {
      assert.ok(isLoamError(error, 'IMAGE_NOT_FOUND'))
      assert.match(error.message, new RegExp(`before that, its mirrors: ${mirror.host}: .* answered 404`))
      return true
    })
  })

  const listOf = (...manifests: unknown[]) =>
    Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests }))

  /** Answers requests of referrers. */
  const answering =
    (status: number, body: Buffer | string): Interceptor =>
    (request, response) => {
      if (request.url?.includes('/referrers/') !== true) return false
      response.writeHead(status).end(body)
      return true
    }

  test('the referrers of an image come from the registry itself, and from a mirror only if it fails', async () => {
    writeHosts(mirror.host)
    await using client = createClient()
    const referrers = async () => client.getReferrers(byDigest, image.manifest.digest)
    const [full, other] = [listOf({ name: 'signature' }), listOf({ name: 'old' })]
    server.intercept = answering(200, full)
    for (const body of [listOf(), other]) {
      mirror.intercept = answering(200, body)
      assert.deepEqual(await referrers(), [full])
    }
    server.intercept = answering(500, '')
    assert.deepEqual(await referrers(), [other])
    // Only the registry itself knows that there is none.
    for (const [status, body] of [
      [200, listOf()],
      [404, ''],
      [200, '<html>Log in</html>'],
    ] as const) {
      mirror.intercept = answering(status, body)
      await assert.rejects(referrers(), { code: 'REGISTRY_RESPONSE' })
    }
    server.intercept = answering(404, '')
    mirror.intercept = answering(200, other)
    assert.deepEqual(await referrers(), [])
  })

  test('the referrers of an image come from the tag if the registry has no API for them', async () => {
    await using client = createClient()
    const reference = parseReference(`${server.host}/app:1`)
    const referrers = async () => client.getReferrers(reference, image.manifest.digest)
    const tagged = listOf({ name: 'signature' })
    const answers = [
      ...[400, 404, 405, 406, 501].map((status) => [status, ''] as const),
      ...['', 'null', '{"errors":[]}', '<html>', '{"tags":[]}', `{"manifests":[],"mediaType":"x"}`].map(
        (body) => [200, body] as const,
      ),
    ]
    for (const [status, body] of answers) {
      server.intercept = answering(status, body)
      assert.deepEqual(await referrers(), [], `${status} ${body}`)
    }
    const tag = image.manifest.digest.replace(':', '-')
    server.addManifest('app', tag, { digest: digestOf(tagged), bytes: tagged }, MEDIA_TYPES.ociIndex)
    for (const [status, body] of answers) {
      server.intercept = answering(status, body)
      assert.deepEqual(await referrers(), [tagged], `${status} ${body}`)
    }
    for (const body of ['{"manifests":null}', '{"mediaType":"","manifests":[]}']) {
      server.intercept = answering(200, body)
      assert.deepEqual(await referrers(), [Buffer.from(body)])
    }
    for (const status of [401, 403, 500]) {
      server.intercept = answering(status, '')
      await assert.rejects(referrers(), { message: new RegExp(`answered ${status}`) })
    }
  })

  test('the referrers of an image come from all pages', async () => {
    writeHosts(mirror.host)
    const pages = ['one', 'two'].map((name) => Buffer.from(JSON.stringify({ manifests: [], name })))
    server.intercept = (request, response) => {
      if (request.url?.includes('/referrers/') !== true) return false
      const isFirst = !request.url.includes('page=2')
      if (isFirst) response.setHeader('link', `<${request.url}?page=2>; rel="next"`)
      response.end(pages[isFirst ? 0 : 1])
      return true
    }
    await using client = createClient()
    assert.deepEqual(await client.getReferrers(byDigest, image.manifest.digest), pages)
  })

  test('a mirror that does not accept the connection within its dial_timeout falls through', async () => {
    await using deaf = await DeafServer.start()
    writeHosts(deaf.host, "capabilities = ['pull', 'resolve']\ndial_timeout = '100ms'")
    await using client = createClient({ connectTimeoutMs: 3_600_000 })
    assert.equal((await client.getManifest(byTag)).digest, image.manifest.digest)
    assert.ok((await fetchBlob(client)).equals(bytes))
  })

  test('dial_timeout is a duration of Go, and anything else is refused', () => {
    const timeoutOf = (text: string) => {
      writeHosts(mirror.host, `dial_timeout = '${text}'`)
      return findEndpoints(HOST, { certsDirs: [certs], insecure: [] })[0]?.connectTimeoutMs
    }
    assert.deepEqual(['200ms', '1m30s', '1.5s', '.5h', '1us', ''].map(timeoutOf), [
      200,
      90_000,
      1500,
      1_800_000,
      1,
      undefined,
    ])
    for (const text of ['5', '-1s', 's', '1s ', '0s', '1d']) {
      assert.throws(
        () => timeoutOf(text),
        (error) => isLoamError(error, 'CONFIG_INVALID'),
        text,
      )
    }
  })

  test('with _default and without a server line, a registry on loopback may still use plain http', async () => {
    mkdirSync(join(certs, '_default'))
    writeFileSync(
      join(certs, '_default', 'hosts.toml'),
      `[host.'http://${mirror.host}']\ncapabilities = ['pull']\n`,
    )
    await using client = createClient()
    assert.equal(
      (await client.getManifest(parseReference(`${server.host}/app:1`))).digest,
      image.manifest.digest,
    )
  })
})

const DEAF = `const server = require('node:net').createServer()
server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
  require('node:fs').writeSync(1, server.address().port + '\\n')
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
})`

/** A server whose queue of connections is full: another one is neither accepted nor refused. */
class DeafServer implements AsyncDisposable {
  readonly #process: ChildProcess
  readonly #sockets: Socket[]
  readonly host: string

  private constructor(child: ChildProcess, port: number, sockets: Socket[]) {
    this.#process = child
    this.#sockets = sockets
    this.host = `127.0.0.1:${port}`
  }

  static async start(): Promise<DeafServer> {
    const child = spawn(process.execPath, ['-e', DEAF], { stdio: ['ignore', 'pipe', 'inherit'] })
    const [data] = (await once(child.stdout, 'data')) as [Buffer]
    const port = Number(data.toString())
    const sockets: Socket[] = []
    for (let queued = 0; queued < 2; queued += 1) {
      const socket = connect(port, '127.0.0.1')
      await once(socket, 'connect')
      sockets.push(socket)
    }
    return new DeafServer(child, port, sockets)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    const ended = once(this.#process, 'exit')
    this.#process.kill('SIGKILL')
    await ended
  }
}
