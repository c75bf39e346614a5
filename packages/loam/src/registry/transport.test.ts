import assert from 'node:assert/strict'
import { createServer, type Server, type ServerResponse } from 'node:http'
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, test } from 'node:test'
import type { LoamError } from '../errors/index.ts'
import { directConnector } from './connector.ts'
import { AddressRefusal } from './proxies.ts'
import { transportError } from './responses.ts'
import { isRetriedError } from './retry.ts'
import { Transport } from './transport.ts'

const TLS = { ca: [], client: undefined, skipVerify: false }

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

describe('a proxy', () => {
  const seen: { line: string; host: string | undefined; authorization: string | undefined }[] = []
  let refusal: number | undefined
  let answer: (response: ServerResponse) => void
  let proxy: Server
  let name: string

  beforeEach(async () => {
    seen.length = 0
    refusal = undefined
    answer = (response) => response.end('from the proxy')
    proxy = createServer((request, response) => {
      const { host, 'proxy-authorization': authorization } = request.headers
      seen.push({ line: `${request.method} ${request.url}`, host, authorization })
      if (refusal !== undefined) response.statusCode = refusal
      answer(response)
    })
    proxy.on('connect', (request, socket) => {
      const { host, 'proxy-authorization': authorization } = request.headers
      seen.push({ line: `CONNECT ${request.url}`, host, authorization })
      if (refusal !== undefined) {
        socket.end(`HTTP/1.1 ${refusal} No\r\ncontent-length: 2\r\n\r\nno`)
        return
      }
      socket.write('HTTP/1.1 200 OK\r\n\r\nnot TLS at all')
      socket.on('error', () => undefined)
    })
    name = await listen(proxy)
  })
  afterEach(() => {
    proxy.close()
    proxy.closeAllConnections()
  })

  /** Opens a transport that sends everything through a proxy. */
  const open = (address = `http://${name}`) =>
    new Transport({
      proxy: { httpProxy: address, httpsProxy: address, noProxy: '' },
      stallTimeoutMs: 5000,
      connectTimeoutMs: 2000,
    })
  const failure = async (
    transport: Transport,
    url: string,
  ): Promise<{ error: unknown; reported: LoamError }> => {
    try {
      const response = await transport.request(new URL(url), { tls: TLS })
      await response.body.dump()
    } catch (error) {
      return { error, reported: transportError(error, { attempted: 'get x' }, 'registry.example') }
    }
    throw new Error('it was answered')
  }

  test('a proxy gets the complete address of a forwarded request, and the host', async () => {
    for (const address of [name, `http://${name}`, `http://field:p%40ssword@${name}`]) {
      seen.length = 0
      await using transport = open(address)
      const response = await transport.request(new URL('http://registry.example:5000/v2/a?b=c%2Fd'), {
        tls: TLS,
      })
      assert.equal(await response.body.text(), 'from the proxy')
      const authorization = address.includes('@')
        ? `Basic ${Buffer.from('field:p@ssword').toString('base64')}`
        : undefined
      assert.deepEqual(seen, [
        {
          line: 'GET http://registry.example:5000/v2/a?b=c%2Fd',
          host: 'registry.example:5000',
          authorization,
        },
      ])
    }
  })

  test('a proxy is asked for a tunnel to a server over TLS, and the end of the tunnel is not taken for the proxy', async () => {
    await using transport = open(`field:p%40ssword@${name}`)
    const { reported } = await failure(transport, 'https://registry.example/v2/')
    const authorization = `Basic ${Buffer.from('field:p@ssword').toString('base64')}`
    assert.deepEqual(seen, [
      { line: 'CONNECT registry.example:443', host: 'registry.example:443', authorization },
    ])
    assert.equal(reported.code, 'REGISTRY_TLS', reported.message)
    assert.match(reported.hint ?? '', /registry\.example/)
    seen.length = 0
    await failure(transport, 'https://[2001:db8::1]:5000/v2/')
    assert.equal(seen[0]?.line, 'CONNECT [2001:db8::1]:5000')
  })

  for (const status of [401, 403, 404, 407, 429, 500, 502, 503, 504]) {
    test(`a proxy that answers CONNECT by ${status} is reported with its name and the status, and not as canceled`, async () => {
      refusal = status
      await using transport = open(`field:p%40ssword@${name}`)
      const { error, reported } = await failure(transport, 'https://registry.example/v2/')
      assert.equal(reported.code, 'REGISTRY_UNREACHABLE')
      assert.equal(reported.message, `get x: the proxy ${name} answered ${status}`)
      assert.match(reported.hint ?? '', /HTTPS_PROXY/)
      assert.equal(isRetriedError(error), status === 429 || status >= 500)
      for (const secret of ['p@ssword', 'p%40ssword'])
        assert.ok(!JSON.stringify([reported.message, reported.hint]).includes(secret))
    })
  }

  test('a proxy that requires a password for forwarded requests is reported, too', async () => {
    refusal = 407
    await using transport = open()
    const { reported } = await failure(transport, 'http://registry.example/v2/')
    assert.equal(reported.message, `get x: the proxy ${name} answered 407`)
    assert.match(reported.hint ?? '', /HTTP_PROXY/)
  })

  test('a proxy that cannot be reached is reported by its name and variable', async () => {
    const gone = createServer()
    const address = await listen(gone)
    gone.close()
    await using transport = open(address)
    for (const [scheme, variable] of [
      ['http', 'HTTP_PROXY'],
      ['https', 'HTTPS_PROXY'],
    ] as const) {
      const { reported } = await failure(transport, `${scheme}://registry.example/`)
      assert.equal(reported.code, 'REGISTRY_UNREACHABLE')
      assert.ok(reported.message.includes(`proxy ${address}`), reported.message)
      assert.ok((reported.hint ?? '').includes(variable))
    }
  })

  test('a proxy that never answers times out', async () => {
    const silent = createServer()
    silent.on('connect', () => undefined)
    const address = await listen(silent)
    try {
      await using transport = new Transport({
        proxy: { httpProxy: '', httpsProxy: address, noProxy: '' },
        stallTimeoutMs: 5000,
        connectTimeoutMs: 200,
      })
      const { reported } = await failure(transport, 'https://registry.example/')
      assert.equal(reported.code, 'REGISTRY_UNREACHABLE')
      assert.ok(reported.message.includes(address), reported.message)
    } finally {
      silent.close()
      silent.closeAllConnections()
    }
  })

  test('a proxy is not used for loopback and for the hosts of NO_PROXY', async () => {
    const own = createServer((_request, response) => response.end('direct'))
    const address = await listen(own)
    try {
      await using transport = open()
      for (const host of [address, address.replace('127.0.0.1', 'localhost')]) {
        const response = await transport.request(new URL(`http://${host}/`), { tls: TLS })
        assert.equal(await response.body.text(), 'direct')
      }
      assert.deepEqual(seen, [])
    } finally {
      own.close()
      own.closeAllConnections()
    }
  })
})

describe('a name that leads to an address that is too near', () => {
  test('a name that resolves to an address that is too near is not connected to, and the address is known', async () => {
    const server = createServer((_request, response) => response.end('x'))
    const port = (await listen(server)).replace(/.*:/, '')
    const url = new URL(`http://localhost:${port}/`)
    try {
      await using transport = new Transport({
        proxy: { httpProxy: '', httpsProxy: '', noProxy: '' },
        stallTimeoutMs: 5000,
        connectTimeoutMs: 2000,
      })
      for (const nearest of ['public', 'private', 'link'] as const) {
        await assert.rejects(transport.request(url, { tls: TLS, nearest }), { code: 'ADDRESS_REFUSED' })
      }
      const response = await transport.request(url, { tls: TLS, nearest: 'loopback' })
      await response.body.dump()
      assert.equal(transport.reachOf(url), 'loopback')
      assert.equal(transport.reachOf(new URL('http://never.asked/')), 'public')
    } finally {
      server.close()
      server.closeAllConnections()
    }
  })
})

describe('a connection that does not come to be', () => {
  for (const way of ['direct', 'proxy'] as const) {
    test(`a connection that does not come about ends with its signal, and with the transport (${way})`, async () => {
      const connected = Promise.withResolvers<Socket>()
      const server = createTcpServer((socket) => {
        socket.resume().on('error', () => undefined)
        connected.resolve(socket)
      })
      await new Promise<void>((resolve) => {
        server.listen(0, '127.0.0.1', resolve)
      })
      const name = `127.0.0.1:${(server.address() as AddressInfo).port}`
      const transport = new Transport({
        proxy: { httpProxy: '', httpsProxy: way === 'proxy' ? name : '', noProxy: '' },
        stallTimeoutMs: 60_000,
        connectTimeoutMs: 60_000,
      })
      const stop = new AbortController()
      const url = new URL(way === 'proxy' ? 'https://registry.example/v2/' : `https://${name}/v2/`)
      const asking = transport.request(url, { tls: TLS, signal: stop.signal })
      const socket = await connected.promise
      const begun = Date.now()
      stop.abort()
      await assert.rejects(asking)
      const closed = new Promise((resolve) => socket.once('close', resolve))
      await transport[Symbol.asyncDispose]()
      await closed
      assert.ok(Date.now() - begun < 30_000)
      server.close()
    })
  }
})

test('an address that is nearer than allowed is refused when it is connected to, whatever was resolved before', async () => {
  const { buildConnector } = await import('undici')
  const server = createTcpServer((socket) => socket.on('error', () => undefined))
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const { port } = server.address() as AddressInfo
  const peers: string[] = []
  const connect = (nearest: 'loopback' | 'public') =>
    new Promise<unknown>((resolve) => {
      const connector = directConnector(buildConnector, {
        tls: { rejectUnauthorized: true },
        timeoutMs: 5000,
        signal: new AbortController().signal,
        nearest,
        onPeer: (_origin, address) => peers.push(address),
      })
      connector({ hostname: '127.0.0.1', protocol: 'http:', port: String(port) }, (error, socket) => {
        socket?.destroy()
        resolve(error)
      })
    })
  assert.equal(await connect('loopback'), null)
  assert.ok((await connect('public')) instanceof AddressRefusal)
  assert.deepEqual(peers, ['127.0.0.1'])
  server.close()
})
