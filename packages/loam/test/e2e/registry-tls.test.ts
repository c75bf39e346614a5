// Trusted certificates after a redirect of a registry: servers with CAs of their own, on loopback.
import assert from 'node:assert/strict'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer, type Server } from 'node:https'
import { type AddressInfo, connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, beforeEach, describe, test } from 'node:test'
import { getCACertificates, setDefaultCACertificates, type TLSSocket } from 'node:tls'
import { isLoamError, type LoamError } from '../../src/errors/index.ts'
import { type Descriptor, digestOf, parseReference } from '../../src/image/index.ts'
import { FileClient, RegistryClient, type RegistryClientOptions } from '../../src/registry/index.ts'
import { Transport } from '../../src/registry/transport.ts'
import { createCertificates } from '../support/world.ts'

const CONTENT = Buffer.from('a blob')
const BLOB: Descriptor = { mediaType: 'x/y', digest: digestOf(CONTENT), sizeBytes: CONTENT.length }

type Answer = (request: IncomingMessage, response: ServerResponse) => void

/** Starts a server with the certificates of a folder, which requests a client certificate and accepts any. */
async function serve(certificates: string, answer: Answer): Promise<{ server: Server; host: string }> {
  const options = {
    cert: readFileSync(join(certificates, 'server.crt')),
    key: readFileSync(join(certificates, 'server.key')),
    requestCert: true,
    rejectUnauthorized: false,
  }
  const server = createServer(options, answer)
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  return { server, host: `127.0.0.1:${(server.address() as AddressInfo).port}` }
}

describe('a registry over TLS that redirects to another host', () => {
  let folder: string
  let ours: string
  let theirs: string
  let certsDir: string
  let registry: { server: Server; host: string }
  let storage: { server: Server; host: string }
  /** Whether the storage got a client certificate, for each request. */
  const shown: boolean[] = []

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'loam-tls-'))
    ours = join(folder, 'ours')
    theirs = join(folder, 'theirs')
    for (const path of [ours, theirs]) {
      mkdirSync(path)
      createCertificates(path)
    }
  })
  after(() => {
    rmSync(folder, { recursive: true })
  })
  beforeEach(() => {
    shown.length = 0
    certsDir = mkdtempSync(join(folder, 'certs-'))
  })
  afterEach(() => {
    for (const { server } of [registry, storage]) {
      server.close()
      server.closeAllConnections()
    }
  })

  const start = async (certificatesOfStorage: string) => {
    storage = await serve(certificatesOfStorage, (request, response) => {
      shown.push(Object.keys((request.socket as TLSSocket).getPeerCertificate()).length > 0)
      assert.equal(request.headers.authorization, undefined)
      response.end(CONTENT)
    })
    registry = await serve(ours, (request, response) => {
      const location = `https://${storage.host}${request.url}`
      response.writeHead(307, { location }).end()
    })
  }
  const put = (host: string, file: string, name = 'ca.crt') => {
    mkdirSync(join(certsDir, host), { recursive: true })
    copyFileSync(file, join(certsDir, host, name))
  }
  const options = (insecure: readonly string[]): RegistryClientOptions => ({
    credentials: { find: async () => undefined },
    manifestBytes: 1 << 20,
    insecure,
    certsDirs: [certsDir],
    proxy: { httpProxy: '', httpsProxy: '', noProxy: '' },
    stallTimeoutMs: 5000,
    connectTimeoutMs: 5000,
    retry: { tries: 1, baseMs: 5, waitMs: 2500 },
  })
  const pull = async (...insecure: string[]) => {
    await using client = new RegistryClient(options(insecure))
    const bytes = await client.getBlob(parseReference(`${registry.host}/app:1`), BLOB, { maxBytes: 100 })
    assert.deepEqual(bytes, CONTENT)
    await using files = new FileClient(options(insecure))
    const file = await files.get(new URL(`https://${registry.host}/file`), 100)
    assert.deepEqual(file.bytes, CONTENT)
  }
  const failure = async (act: Promise<unknown>): Promise<LoamError> => {
    try {
      await act
    } catch (error) {
      assert.ok(isLoamError(error), String(error))
      return error
    }
    throw new Error('it worked')
  }

  test("a redirect of a registry over TLS to another host is followed with the registry's own CA", async () => {
    await start(ours)
    put(registry.host, join(ours, 'ca.crt'))
    await pull()
  })

  test('an expired certificate is refused with the time until which it was valid, and its name', async () => {
    const old = join(folder, 'old')
    mkdirSync(old)
    createCertificates(old, '127.0.0.1', '2020-01-01')
    storage = await serve(old, () => undefined)
    registry = storage
    put(registry.host, join(old, 'ca.crt'))
    const { code, message, hint } = await failure(pull())
    assert.equal(code, 'REGISTRY_TLS')
    assert.match(
      message,
      /certificate has expired: the one of \S+ was valid until 2020-01-0\d \d\d:\d\d UTC$/,
    )
    assert.match(hint ?? '', /^Renew the certificate/)
  })

  test('a redirect over TLS is followed with the CA of the other host, and with one for all hosts', async () => {
    await start(theirs)
    put(registry.host, join(ours, 'ca.crt'))
    const told = await failure(pull())
    assert.equal(told.code, 'REGISTRY_TLS')
    assert.ok(told.message.includes(storage.host), told.message)
    assert.ok((told.hint ?? '').includes(`certs.d/${storage.host}/ca.crt`))
    assert.ok((told.hint ?? '').includes(`--insecure ${storage.host}`))
    put(storage.host, join(theirs, 'ca.crt'))
    await pull()
    rmSync(certsDir, { recursive: true })
    put('.', join(ours, 'ca.crt'), 'ours.crt')
    put('.', join(theirs, 'ca.crt'), 'theirs.crt')
    await pull()
  })

  test('a redirect over TLS is followed without its certificate for the named host alone', async () => {
    await start(theirs)
    const told = await failure(pull(registry.host))
    assert.equal(told.code, 'REGISTRY_TLS')
    assert.ok(told.message.includes(storage.host), told.message)
    await pull(registry.host, storage.host)
    put(registry.host, join(ours, 'ca.crt'))
    await pull(storage.host)
    await pull('127.0.0.1')
  })

  test("a redirect over TLS never shows the registry's client certificate, but the other host's own", async () => {
    await start(ours)
    const identity = (host: string) => {
      put(host, join(ours, 'ca.crt'))
      put(host, join(ours, 'server.crt'), 'client.cert')
      put(host, join(ours, 'server.key'), 'client.key')
    }
    identity(registry.host)
    await pull()
    assert.deepEqual(shown, [false, false])
    rmSync(certsDir, { recursive: true })
    identity('.')
    await pull()
    assert.deepEqual(shown, [false, false, false, false])
    identity(storage.host)
    await pull()
    assert.deepEqual(shown.slice(4), [true, true])
  })
})

describe('a proxy that speaks TLS', () => {
  test('a proxy that speaks TLS is trusted by this machine alone, sees no client certificate, and carries TLS', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'loam-tls-'))
    const roots = getCACertificates('default')
    const asked: string[] = []
    const shown = { proxy: false, registry: false }
    createCertificates(folder)
    const read = (name: string) => readFileSync(join(folder, name), 'utf8')
    const isShown = (socket: unknown) => Object.keys((socket as TLSSocket).getPeerCertificate()).length > 0
    const registry = await serve(folder, (request, response) => {
      shown.registry = isShown(request.socket)
      response.end('through')
    })
    const proxy = await serve(folder, (request, response) => {
      asked.push(`${request.method} ${request.url}`)
      response.end('forwarded')
    })
    proxy.server.on('connect', (request, client) => {
      asked.push(`CONNECT ${request.url}`)
      shown.proxy ||= isShown(client)
      const upstream = connect(Number(registry.host.replace(/.*:/, '')), '127.0.0.1', () => {
        client.write('HTTP/1.1 200 OK\r\n\r\n')
        client.pipe(upstream).pipe(client)
      })
      for (const socket of [client, upstream]) socket.on('error', () => undefined)
    })
    const address = `https://${proxy.host}`
    const open = () =>
      new Transport({
        proxy: { httpProxy: address, httpsProxy: address, noProxy: '' },
        stallTimeoutMs: 5000,
        connectTimeoutMs: 5000,
      })
    const tls = {
      ca: [read('ca.crt')],
      client: { cert: read('server.crt'), key: read('server.key') },
      skipVerify: true,
    }
    try {
      await using untrusted = open()
      await assert.rejects(untrusted.request(new URL('https://registry.example/x'), { tls }), /certificate/)
      await assert.rejects(untrusted.request(new URL('http://registry.example/x'), { tls }), /certificate/)
      assert.deepEqual(asked, [])
      setDefaultCACertificates([...roots, read('ca.crt')])
      await using trusted = open()
      const tunneled = await trusted.request(new URL('https://registry.example/x'), { tls })
      assert.equal(await tunneled.body.text(), 'through')
      const forwarded = await trusted.request(new URL('http://registry.example/x'), { tls })
      assert.equal(await forwarded.body.text(), 'forwarded')
      assert.deepEqual(asked, ['CONNECT registry.example:443', 'GET http://registry.example/x'])
      assert.deepEqual(shown, { proxy: false, registry: true })
    } finally {
      setDefaultCACertificates(roots)
      for (const { server } of [registry, proxy]) {
        server.close()
        server.closeAllConnections()
      }
      rmSync(folder, { recursive: true })
    }
  })
})
