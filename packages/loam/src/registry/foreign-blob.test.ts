// Layers that must not be distributed: registries may lack them, and their manifests name other addresses.
import assert from 'node:assert/strict'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { afterEach, beforeEach, test } from 'node:test'
import { Activity } from '../activity/index.ts'
import { isLoamError, LoamError } from '../errors/index.ts'
import { type Descriptor, digestOf, MEDIA_TYPES, parseReference } from '../image/index.ts'
import { streamForeign } from './foreign-blob.ts'
import { credentialsOfUser, FileClient, RegistryClient } from './index.ts'
import { findHostRules } from './endpoints.ts'

const CONTENT = Buffer.from('a layer of a vendor')
const PASSWORD = `Basic ${Buffer.from('alice:secret!').toString('base64')}`
const network = {
  insecure: [],
  certsDirs: [],
  proxy: { httpProxy: '', httpsProxy: '', noProxy: '' },
  stallTimeoutMs: 5000,
  connectTimeoutMs: 5000,
  retry: { tries: 2, baseMs: 5, waitMs: 2500 },
}

interface Host {
  readonly server: Server
  readonly asked: { readonly url: string; readonly headers: IncomingMessage['headers'] }[]
  readonly name: string
}

async function startHost(
  answer: (request: IncomingMessage, response: ServerResponse) => unknown,
): Promise<Host> {
  const asked: Host['asked'] = []
  const server = createServer((request, response) => {
    asked.push({ url: request.url ?? '', headers: request.headers })
    answer(request, response)
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  return { server, asked, name: `127.0.0.1:${(server.address() as AddressInfo).port}` }
}

/** Sends the content, or the requested range of it. */
function send({ headers }: IncomingMessage, response: ServerResponse): void {
  const from = Number(/^bytes=(\d+)-/.exec(headers.range ?? '')?.[1] ?? -1)
  if (from < 0) response.end(CONTENT)
  else
    response
      .writeHead(206, { 'content-range': `bytes ${from}-${CONTENT.length - 1}/${CONTENT.length}` })
      .end(CONTENT.subarray(from))
}

let has = false
let registry: Host
let vendor: Host
beforeEach(async () => {
  has = false
  registry = await startHost((request, response) => {
    if (request.headers.authorization !== PASSWORD)
      response.writeHead(401, { 'www-authenticate': 'Basic realm="r"' }).end()
    else if (has) send(request, response)
    else response.writeHead(404).end(JSON.stringify({ errors: [{ code: 'BLOB_UNKNOWN' }] }))
  })
  vendor = await startHost((request, response) => {
    if (request.url?.startsWith('/layer') === true) send(request, response)
    else response.writeHead(404).end()
  })
})
afterEach(() => {
  for (const { server } of [registry, vendor]) {
    server.close()
    server.closeAllConnections()
  }
})

const foreign = (...urls: string[]): Descriptor => ({
  mediaType: MEDIA_TYPES.ociForeignLayer,
  digest: digestOf(CONTENT),
  sizeBytes: CONTENT.length,
  urls,
})

async function textOf(stream: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

async function get(blob: Descriptor, fromByte = 0): Promise<string> {
  const credentials = credentialsOfUser('alice', 'secret!')
  await using client = new RegistryClient({ ...network, credentials, manifestBytes: 1 << 20 })
  return await textOf(
    client.streamBlob(parseReference(`${registry.name}/a/b:1`), blob, undefined, { fromByte }),
  )
}

test('a foreign layer that its registry lacks comes from its own addresses, without the credentials of the registry', async () => {
  const address = `http://user:password@${vendor.name}/layer?sig=a%2Fb#x`
  assert.equal(await get(foreign(`http://${vendor.name}/none`, address)), CONTENT.toString())
  assert.deepEqual(
    vendor.asked.map(({ url, headers }) => [url, headers.authorization]),
    [
      ['/none', undefined],
      ['/layer?sig=a%2Fb', undefined],
    ],
  )
  assert.ok(registry.asked.some(({ headers }) => headers.authorization === PASSWORD))
  for (let fromByte = 1; fromByte <= CONTENT.length; fromByte += 6)
    assert.equal(
      await get(foreign(`http://${vendor.name}/layer`), fromByte),
      CONTENT.subarray(fromByte).toString(),
    )
})

test('the trace of the caller is sent to the registry, and to no host of such an address', async () => {
  const activity = new Activity()
  activity.traceBy({
    begin: () => ({
      context: { parent: 'a span', state: undefined, isRemote: false },
      end: () => undefined,
    }),
  })
  const url = `http://${vendor.name}/layer`
  assert.equal(await activity.observe('images.pull', {}, async () => get(foreign(url))), CONTENT.toString())
  const tracesOf = ({ asked }: Host) => new Set(asked.map(({ headers }) => headers['traceparent']))
  assert.deepEqual([tracesOf(registry), tracesOf(vendor)], [new Set(['a span']), new Set([undefined])])
})

test('the registry itself is asked first, and the addresses of other layers do not count', async () => {
  const address = `http://${vendor.name}/layer`
  has = true
  assert.equal(await get(foreign(address)), CONTENT.toString())
  has = false
  const plain = { ...foreign(address), mediaType: MEDIA_TYPES.ociLayer }
  await assert.rejects(get(plain), { code: 'IMAGE_NOT_FOUND' })
  assert.deepEqual(vendor.asked, [])
})

test('a layer that is nowhere is an error with the reason, each failure, and the hosts', async () => {
  const addresses = [`http://${vendor.name}/none`, 'ftp://old.example/layer', 'nothing']
  await assert.rejects(get(foreign(...addresses)), (error) => {
    assert.ok(isLoamError(error, 'REGISTRY_RESPONSE'), String(error))
    assert.match(error.message, /its registry lacks this layer, which must not be distributed/)
    assert.match(error.message, /404.*; .*scheme ftp; .*an invalid address/)
    assert.match(error.hint ?? '', new RegExp(`${vendor.name}, old.example`))
    return true
  })
  await assert.rejects(get(foreign(`http://${vendor.name}/none`)), {
    hint: new RegExp(`The layer is at ${vendor.name}`),
  })
})

test('an address is not used if a redirect of the registry could not lead to it', async () => {
  const [blob, lacks] = [foreign('http://10.1.2.3/layer'), new LoamError('IMAGE_NOT_FOUND', '404')]
  const proxy = { httpProxy: `http://${vendor.name}`, httpsProxy: '', noProxy: '' }
  const fetch = async (
    registryUrl: string,
    more: { privateRedirects?: string[]; insecure?: string[] } = {},
  ) => {
    const options = { ...network, proxy, ...more }
    await using files = new FileClient(options)
    const wanted = { attempted: 'get it', headers: {}, scope: '', fromByte: 0, sizeBytes: CONTENT.length }
    const rulesOf = (host: string) => findHostRules(host, options)
    const lacking = () =>
      new Readable({
        read() {
          this.destroy(lacks)
        },
      })
    return await textOf(
      streamForeign(lacking, blob, { files, namedBy: new URL(registryUrl), rulesOf, wanted }),
    )
  }
  // The proxy is the vendor.
  const proxied = vendor.asked
  await assert.rejects(fetch('http://registry.example/v2/'), { hint: /--private_redirects=10\.1\.2\.3/ })
  await assert.rejects(fetch('https://10.9.9.9/v2/'), { message: /from https to http at 10\.1\.2\.3/ })
  assert.deepEqual(proxied, [])
  vendor.server.removeAllListeners('request')
  vendor.server.on('request', send)
  for (const answer of [
    await fetch('http://10.9.9.9/v2/'),
    await fetch('http://registry.example/v2/', { privateRedirects: ['10.1.2.3'] }),
    await fetch('https://10.9.9.9/v2/', { insecure: ['10.1.2.3'] }),
  ])
    assert.equal(answer, CONTENT.toString())
})
