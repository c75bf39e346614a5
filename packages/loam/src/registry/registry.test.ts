import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { type ErrorCode, isLoamError, LoamError } from '../errors/index.ts'
import { type Descriptor, parseReference } from '../image/index.ts'
import { buildImage, buildTar, RegistryServer } from '../testing/index.ts'
import { parseChallenges } from './challenge.ts'
import { findEndpoints } from './endpoints.ts'
import { type CredentialSource, credentialsOfUser, RegistryClient } from './index.ts'

const image = buildImage({
  tars: [buildTar([{ name: 'f', data: Buffer.alloc(400_000, 'x') }])],
  compression: 'none',
})
const [layer] = image.layers
const blob: Descriptor = {
  mediaType: 'application/vnd.oci.image.layer.v1.tar',
  digest: layer!.digest,
  sizeBytes: layer!.bytes.length,
}

const anonymous: CredentialSource = { find: async () => undefined }

function createClient(
  options: {
    credentials?: CredentialSource
    certsDirs?: string[]
    stallTimeoutMs?: number
    manifestBytes?: number
  } = {},
): RegistryClient {
  return new RegistryClient({
    credentials: anonymous,
    manifestBytes: 4 << 20,
    insecure: [],
    certsDirs: [],
    proxy: { httpProxy: '', httpsProxy: '', noProxy: '' },
    stallTimeoutMs: 5000,
    connectTimeoutMs: 5000,
    retry: { tries: 4, baseMs: 5, waitMs: 2500 },
    ...options,
  })
}

async function readAll(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks)
}

const rejects = async (act: Promise<unknown>, code: ErrorCode) => {
  await assert.rejects(act, (error) => {
    assert.ok(isLoamError(error), String(error))
    assert.equal(error.code, code, error.message)
    return true
  })
}

describe('registry client', () => {
  let server: RegistryServer
  const reference = (tag = '1') => parseReference(`${server.host}/app:${tag}`)

  beforeEach(async () => {
    server = await RegistryServer.start()
    server.addImage('app', '1', image)
  })
  afterEach(async () => {
    await server[Symbol.asyncDispose]()
  })

  test('the registry client gets a manifest by tag and a blob, and finds plain http on loopback by itself', async () => {
    await using client = createClient()
    const manifest = await client.getManifest(reference())
    assert.equal(manifest.digest, image.manifest.digest)
    assert.deepEqual(await readAll(client.streamBlob(reference(), blob)), layer!.bytes)
    await rejects(client.getManifest(reference('none')), 'IMAGE_NOT_FOUND')
  })

  test('a transfer resumes after ten cuts from where it stopped', async () => {
    let cuts = 0
    const ranges: (string | undefined)[] = []
    server.intercept = (request, response) => {
      if (request.url?.includes('/blobs/') !== true) return false
      ranges.push(request.headers.range)
      const start = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0)
      if (cuts === 10) return false
      cuts += 1
      const total = layer!.bytes.length
      response.writeHead(start === 0 ? 200 : 206, {
        'content-length': total - start,
        'content-range': `bytes ${start}-${total - 1}/${total}`,
      })
      response.write(layer!.bytes.subarray(start, start + 30_000), () => {
        setTimeout(() => response.destroy(), 5)
      })
      return true
    }
    await using client = createClient()
    assert.deepEqual(await readAll(client.streamBlob(reference(), blob)), layer!.bytes)
    assert.equal(cuts, 10)
    assert.ok(ranges.slice(1).every((range) => range !== undefined))
  })

  test('a transfer skips the received part if a server ignores ranges, and restarts after a wrong range', async () => {
    let isFirst = true
    const cutOnce = (
      request: IncomingMessage,
      response: ServerResponse,
      rest: (response: ServerResponse) => void,
    ) => {
      if (request.url?.includes('/blobs/') !== true) return false
      if (!isFirst) {
        rest(response)
        return true
      }
      isFirst = false
      response.writeHead(200, { 'content-length': layer!.bytes.length })
      response.write(layer!.bytes.subarray(0, 1000), () => {
        setTimeout(() => response.destroy(), 5)
      })
      return true
    }
    server.intercept = (request, response) => cutOnce(request, response, (again) => again.end(layer!.bytes))
    await using client = createClient()
    assert.deepEqual(await readAll(client.streamBlob(reference(), blob)), layer!.bytes)
    const total = layer!.bytes.length
    for (const range of [
      `bytes 0-${total - 1}/${total}`,
      `bytes 999-${total - 1}/${total}`,
      'bytes */9',
      '',
      undefined,
    ]) {
      isFirst = true
      const ranges: (string | undefined)[] = []
      server.intercept = (request, response) =>
        cutOnce(request, response, (again) => {
          ranges.push(request.headers.range)
          const headers = range === undefined ? {} : { 'content-range': range }
          again.writeHead(request.headers.range === undefined ? 200 : 206, headers).end(layer!.bytes)
        })
      assert.ok((await readAll(client.streamBlob(reference(), blob))).equals(layer!.bytes), String(range))
      assert.deepEqual(ranges, ['bytes=1000-', undefined])
    }
    // A server that answers with ranges only, and not with the requested one.
    server.intercept = (request, response) => {
      if (request.url?.includes('/blobs/') !== true) return false
      response
        .writeHead(206, { 'content-range': `bytes 5-${total - 1}/${total}` })
        .end(layer!.bytes.subarray(5))
      return true
    }
    for (const start of [0, 1000])
      await rejects(
        readAll(client.streamBlob(reference(), blob, undefined, { fromByte: start })),
        'REGISTRY_RESPONSE',
      )
  })

  test('a transfer takes a 416 after its last byte for its end, and restarts otherwise', async () => {
    const bytes = layer?.bytes ?? Buffer.alloc(0)
    for (const range of [`bytes */${bytes.length}`, undefined, 'bytes */5']) {
      const asked: (string | undefined)[] = []
      server.intercept = (request, response) => {
        if (request.url?.includes('/blobs/') !== true) return false
        asked.push(request.headers.range)
        if (request.headers.range !== undefined) {
          response.writeHead(416, range === undefined ? {} : { 'content-range': range }).end()
        } else if (asked.length === 1) {
          // All bytes, without the last chunk, so that the client cannot know that the body is complete.
          response.writeHead(200, { 'transfer-encoding': 'chunked' })
          response.write(bytes, () => setTimeout(() => request.socket.destroy(), 50))
        } else response.writeHead(200, { 'content-length': bytes.length }).end(bytes)
        return true
      }
      await using client = createClient()
      const whole = await readAll(client.streamBlob(reference(), { ...blob, sizeBytes: -1 }))
      assert.ok(whole.equals(bytes), String(range))
      assert.equal(asked.length, range === `bytes */${bytes.length}` ? 2 : 3)
    }
  })

  test('a transfer resumes from a given byte, by a range or by skipping the bytes before it', async () => {
    const bytes = layer?.bytes ?? Buffer.alloc(0)
    await using client = createClient()
    const from = async (start: number) =>
      readAll(client.streamBlob(reference(), blob, undefined, { fromByte: start }))
    assert.ok((await from(1000)).equals(bytes.subarray(1000)))
    assert.equal((await from(bytes.length)).length, 0)
    server.intercept = (request, response) => {
      if (request.url?.includes('/blobs/') !== true) return false
      response.writeHead(200, { 'content-length': bytes.length }).end(bytes)
      return true
    }
    assert.ok((await from(1000)).equals(bytes.subarray(1000)))
  })

  test('a part of a blob is requested by a range with an end, and cut out of a whole blob where there are no ranges', async () => {
    const bytes = layer?.bytes ?? Buffer.alloc(0)
    await using client = createClient()
    let wholes = 0
    const onWhole = () => {
      wholes += 1
    }
    const part = async (fromByte: number, endByte: number) =>
      readAll(client.streamBlob(reference(), blob, undefined, { fromByte, endByte, onWhole }))
    assert.ok((await part(0, 10)).equals(bytes.subarray(0, 10)))
    assert.ok((await part(100, 1000)).equals(bytes.subarray(100, 1000)))
    assert.equal(server.headers.at(-1)?.headers.range, 'bytes=100-999')
    assert.equal(wholes, 0)
    server.intercept = (request) => {
      delete request.headers.range
      return false
    }
    const cut = await part(100, 1000)
    assert.ok(cut.subarray(0, 900).equals(bytes.subarray(100, 1000)))
    assert.equal(wholes, 1)
  })

  test('a request is retried on 429 and 5xx after the wait that is asked for, and fails at once where that is too long', async () => {
    let failures = 2
    let retryAfter = '1'
    server.intercept = (_request, response) => {
      if (failures === 0) return false
      failures -= 1
      response.writeHead(failures === 1 ? 503 : 429, { 'retry-after': retryAfter })
      response.end()
      return true
    }
    await using client = createClient()
    const begun = Date.now()
    assert.equal((await client.getManifest(reference())).digest, image.manifest.digest)
    assert.ok(Date.now() - begun >= 2000)
    failures = Number.POSITIVE_INFINITY
    retryAfter = '31536000'
    const asked = server.requests.length
    await assert.rejects(client.getManifest(reference()), {
      code: 'REGISTRY_RATE_LIMITED',
      message: /asks to wait 31536000 s, the total limit is 3 s \(registry_retry_time\)/,
    })
    assert.equal(server.requests.length, asked + 1)
  })

  for (const status of [408, 429, 500, 502, 503, 504]) {
    test(`a request is retried where the token server answers ${status}, or closes the connection`, async () => {
      let asked = 0
      server.intercept = (request, response) => {
        if (request.headers.authorization === 'Bearer abc') return false
        if (request.url?.startsWith('/token') !== true) {
          const realm = `http://${server.host}/token`
          response.writeHead(401, { 'www-authenticate': `Bearer realm="${realm}",service="s"` }).end()
          return true
        }
        asked += 1
        if (asked === 1) response.writeHead(status, { 'retry-after': '0' }).end('busy')
        else if (asked === 2) request.socket.destroy()
        else response.end('{"token":"abc"}')
        return true
      }
      await using client = createClient()
      assert.equal((await client.getManifest(reference())).digest, image.manifest.digest)
      assert.equal(asked, 3)
    })
  }

  test('a caller who leaves while a token is requested does not stop the other callers', async () => {
    const held: (() => void)[] = []
    server.intercept = (request, response) => {
      if (request.headers.authorization === 'Bearer abc') return false
      if (request.url?.startsWith('/token') !== true) {
        const realm = `http://${server.host}/token`
        response.writeHead(401, { 'www-authenticate': `Bearer realm="${realm}",service="s"` }).end()
        return true
      }
      held.push(() => response.end('{"token":"abc"}'))
      return true
    }
    await using client = createClient()
    const leaver = new AbortController()
    const left = client.getManifest(reference(), leaver.signal).then(
      () => 'got',
      () => 'left',
    )
    while (held.length === 0) await sleep(10)
    const stays = client.getManifest(reference())
    await sleep(200)
    leaver.abort()
    assert.equal(await left, 'left')
    for (const answer of held) answer()
    assert.equal((await stays).digest, image.manifest.digest)
    assert.equal(held.length, 1)
  })

  test('a registry that stalls is given up', async () => {
    await using client = createClient({ stallTimeoutMs: 300 })
    await client.getManifest(reference())
    server.intercept = () => true
    await rejects(client.getManifest(reference()), 'REGISTRY_STALLED')
  })

  for (const [pace, waitMs] of [
    ['slow', 50],
    ['fast', 0],
  ] as const) {
    test(`interim answers without a final one end a request as a stall does (${pace})`, async () => {
      await using client = createClient({ stallTimeoutMs: 300 })
      await client.getManifest(reference())
      let sent = 0
      const feeding = new AbortController()
      server.intercept = (_request, response) => {
        const feed = async () => {
          for (; !response.destroyed && !feeding.signal.aborted; sent += 1) {
            response.writeEarlyHints({ link: '</a>; rel=preload' })
            await sleep(waitMs)
          }
        }
        void feed()
        return true
      }
      await rejects(client.getManifest(reference()), 'REGISTRY_STALLED')
      feeding.abort()
      assert.ok(sent > 0)
      server.intercept = (_request, response) => {
        response.writeEarlyHints({ link: '</a>; rel=preload' })
        return false
      }
      assert.equal((await client.getManifest(reference())).digest, image.manifest.digest)
    })
  }

  test('a document that stops coming or comes damaged is requested again', async () => {
    await using client = createClient({ stallTimeoutMs: 300 })
    await client.getManifest(reference())
    const troubles = [
      (response: ServerResponse) => {
        response.writeHead(200, { 'content-length': '1000' }).write('{')
      },
      (response: ServerResponse) => {
        response.writeHead(200, { 'docker-content-digest': image.manifest.digest }).end('{}')
      },
    ]
    server.intercept = (_request, response) => {
      const trouble = troubles.shift()
      trouble?.(response)
      return trouble !== undefined
    }
    assert.equal((await client.getManifest(reference())).digest, image.manifest.digest)
    assert.equal(troubles.length, 0)
  })

  test('a manifest with another digest and a document without end are refused', async () => {
    await using client = createClient()
    server.addManifest(
      'app',
      '1',
      { digest: image.manifest.digest, bytes: Buffer.from('{}') },
      image.mediaType,
    )
    await rejects(
      client.getManifest(parseReference(`${server.host}/app@${image.manifest.digest}`)),
      'DIGEST_MISMATCH',
    )
    server.intercept = (_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json' })
      const feed = () => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536, 32)));
      }
      response.on('drain', feed)
      feed()
      return true
    }
    await rejects(client.getManifest(reference()), 'DOCUMENT_TOO_LARGE')
    server.intercept = () => false
    await using narrow = createClient({ manifestBytes: 1 })
    await rejects(narrow.getManifest(reference()), 'DOCUMENT_TOO_LARGE')
  })

  test('tokens, errors and headers without end are cut off', async () => {
    const withoutEnd = (response: ServerResponse, status: number) => {
      response.writeHead(status, { 'content-type': 'application/json' })
      const feed = () => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536, 32)));
      }
      response.on('drain', feed)
      feed()
    }
    await using client = createClient({ credentials: credentialsOfUser('alice', 'secret') })
    const before = process.memoryUsage.rss()
    server.intercept = (request, response) => {
      if (request.url?.startsWith('/token') === true) withoutEnd(response, 200)
      else response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${server.host}/token"` }).end()
      return true
    }
    await rejects(client.getManifest(reference()), 'DOCUMENT_TOO_LARGE')
    server.intercept = (_request, response) => {
      withoutEnd(response, 403)
      return true
    }
    await rejects(client.getManifest(reference()), 'REGISTRY_DENIED')
    server.intercept = (request) => {
      request.socket.write(`HTTP/1.1 200 OK\r\n${'X-Long: x\r\n'.repeat(20_000)}\r\n`)
      return true
    }
    await rejects(client.getManifest(reference()), 'REGISTRY_UNREACHABLE')
    assert.ok(process.memoryUsage.rss() - before < 100 << 20)
  })

  test('the client asks for bytes without a content encoding, and refuses any', async () => {
    await using client = createClient()
    await client.getManifest(reference())
    assert.ok(server.headers.every(({ headers }) => headers['accept-encoding'] === 'identity'))
    server.intercept = (_request, response) => {
      response.writeHead(200, { 'content-type': image.mediaType, 'content-encoding': 'gzip' })
      response.end(gzipSync(image.manifest.bytes))
      return true
    }
    const pinned = parseReference(`${server.host}/app@${image.manifest.digest}`)
    await rejects(client.getManifest(pinned), 'DIGEST_MISMATCH')
    await rejects(readAll(client.streamBlob(reference(), blob)), 'SIZE_MISMATCH')
  })

  test('a challenge is read in linear time, and one that is too long is refused', () => {
    for (const text of [
      '"'.repeat(8000),
      `Bearer ${'a=,'.repeat(2500)}`,
      `Bearer x="${'\\'.repeat(7000)}`,
      ' '.repeat(8000),
      ','.repeat(8000),
    ]) {
      const start = performance.now()
      assert.throws(() => {
        parseChallenges([text, 'Digest x="y"'])
        throw new LoamError('REGISTRY_RESPONSE', 'it was read')
      })
      assert.ok(performance.now() - start < 10_000, text.slice(0, 20))
    }
    assert.throws(
      () => parseChallenges([`Bearer realm="${'x'.repeat(9000)}"`]),
      (error) => isLoamError(error, 'REGISTRY_RESPONSE'),
    )
  })

  test('credentials never go to where a redirect leads', async () => {
    await using storage = await RegistryServer.start()
    storage.setBlob(blob.digest, layer!.bytes)
    server.intercept = (request, response) => {
      if (request.headers.authorization === undefined) {
        response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' })
        response.end()
        return true
      }
      if (request.url?.includes('/blobs/') !== true) return false
      response.writeHead(307, {
        location: `http://${storage.host.replace('127.0.0.1', 'localhost')}${request.url}`,
      })
      response.end()
      return true
    }
    await using client = createClient({ credentials: credentialsOfUser('alice', 'secret') })
    assert.deepEqual(await readAll(client.streamBlob(reference(), blob)), layer!.bytes)
    const [seen] = storage.headers
    assert.ok(seen !== undefined)
    assert.equal(seen.headers.authorization, undefined)
    server.intercept = (_request, response) => {
      response.writeHead(302, { location: '/v2/app/manifests/1' })
      response.end()
      return true
    }
    await rejects(client.getManifest(reference()), 'REGISTRY_RESPONSE')
  })

  test('a token that is refused in mid-pull is renewed, one at a time', async () => {
    let valid = 0
    let asked = 0
    server.intercept = (request, response) => {
      if (request.url?.startsWith('/token') === true) {
        asked += 1
        valid = asked
        response.end(JSON.stringify({ token: `t${valid}`, expires_in: 300 }))
        return true
      }
      if (request.headers.authorization === `Bearer t${valid}`) return false
      response.writeHead(401, {
        'www-authenticate': `Bearer realm="http://${server.host}/token",service="s",scope="repository:app:pull"`,
      })
      response.end()
      return true
    }
    await using client = createClient()
    await Promise.all([
      client.getManifest(reference()),
      client.getManifest(reference()),
      client.getManifest(reference()),
    ])
    assert.equal(asked, 1)
    valid = -1
    assert.deepEqual(await readAll(client.streamBlob(reference(), blob)), layer!.bytes)
    assert.equal(asked, 2)
  })

  test('the password goes to a registry that denies without asking, and nothing is sent when there is none', async () => {
    const expected = `Basic ${Buffer.from('alice:secret').toString('base64')}`
    server.intercept = (request, response) => {
      if (request.headers.authorization === expected) return false
      response.writeHead(403).end()
      return true
    }
    await using client = createClient({ credentials: credentialsOfUser('alice', 'secret') })
    await client.getManifest(reference())
    assert.deepEqual(await readAll(client.streamBlob(reference(), blob)), layer!.bytes)
    await using nobody = createClient({ credentials: anonymous })
    await rejects(nobody.getManifest(reference()), 'REGISTRY_DENIED')
    await using wrong = createClient({ credentials: credentialsOfUser('alice', 'wrong') })
    await rejects(wrong.getManifest(reference()), 'REGISTRY_DENIED')
  })

  test('the client requests the scope that it needs if a challenge names neither scope nor service', async () => {
    const asked: string[] = []
    server.intercept = (request, response) => {
      if (request.url?.startsWith('/token') === true) {
        asked.push(request.url)
        response.end(JSON.stringify({ token: 'given' }))
        return true
      }
      if (request.headers.authorization === 'Bearer given') return false
      response.writeHead(401, { 'www-authenticate': `bearer realm="http://${server.host}/token"` }).end()
      return true
    }
    await using client = createClient({ credentials: credentialsOfUser('alice', 'secret') })
    await client.getManifest(reference())
    assert.deepEqual(asked, ['/token?scope=repository%3Aapp%3Apull&account=alice'])
  })

  test('the password goes to no token server without TLS on another host, and tokens with line breaks are refused', async () => {
    let realm = 'http://tokens.example/token'
    server.intercept = (request, response) => {
      if (request.url?.startsWith('/token') === true)
        response.end(JSON.stringify({ token: 'a\r\nX-Evil: 1' }))
      else {
        response.writeHead(401, { 'www-authenticate': `Bearer realm="${realm}",service="s"` })
        response.end()
      }
      return true
    }
    await using client = createClient({ credentials: credentialsOfUser('alice', 'secret') })
    await rejects(client.getManifest(reference()), 'REGISTRY_RESPONSE')
    realm = 'file:///etc/passwd'
    await rejects(client.getManifest(reference()), 'REGISTRY_RESPONSE')
    realm = `http://${server.host}/token`
    await rejects(client.getManifest(reference()), 'REGISTRY_RESPONSE')
  })

  test('the mirrors of hosts.toml are tried first, and the registry when they fail', async () => {
    const certs = mkdtempSync(join(tmpdir(), 'loam-certs-'))
    await using mirror = await RegistryServer.start()
    try {
      mkdirSync(join(certs, 'registry.test'))
      writeFileSync(
        join(certs, 'registry.test', 'hosts.toml'),
        `server = "http://${server.host}"\n[host."http://${mirror.host}"]\ncapabilities = ["pull", "resolve"]\n[host."http://${mirror.host}".header]\nx-mirror = "yes"\n`,
      )
      await using client = createClient({ certsDirs: [certs] })
      const named = parseReference('registry.test/app:1')
      assert.equal((await client.getManifest(named)).digest, image.manifest.digest)
      assert.deepEqual(mirror.requests, ['GET /v2/app/manifests/1?ns=registry.test'])
      assert.equal(mirror.headers[0]?.headers['x-mirror'], 'yes')
      mirror.addImage('app', '1', image)
      await client.getManifest(named)
      assert.equal(server.requests.length, 1)
      assert.equal(server.headers[0]?.headers['x-mirror'], undefined)
    } finally {
      rmSync(certs, { recursive: true })
    }
  })
})

describe('challenges', () => {
  test('a challenge prefers Bearer, and has quoted and bare values', () => {
    const challenge = parseChallenges([
      'Basic realm="a, b", Bearer realm="https://x/\\"y\\"",service=s , scope="repository:a:pull,push"',
    ])
    assert.equal(challenge.scheme, 'bearer')
    assert.deepEqual(
      [...challenge.parameters],
      [
        ['realm', 'https://x/"y"'],
        ['service', 's'],
        ['scope', 'repository:a:pull,push'],
      ],
    )
    assert.equal(parseChallenges(['basic']).scheme, 'basic')
    const sparse = parseChallenges([
      ', ,Negotiate abc==,,Basic realm="b",, Bearer realm="r",,service="x", ,scope=s,',
    ])
    assert.deepEqual(
      [...sparse.parameters],
      [
        ['realm', 'r'],
        ['service', 'x'],
        ['scope', 's'],
      ],
    )
    assert.throws(
      () => parseChallenges(['Digest realm="x"']),
      (error) => isLoamError(error, 'REGISTRY_RESPONSE'),
    )
    assert.throws(
      () => parseChallenges([`Bearer ${'a'.repeat(10_000)}`]),
      (error) => isLoamError(error, 'REGISTRY_RESPONSE'),
    )
  })
})

describe('endpoints', () => {
  test('endpoints are https, but for registries on loopback and those named insecure', () => {
    const [hub] = findEndpoints('docker.io', { certsDirs: [], insecure: [] })
    assert.deepEqual([hub?.base, hub?.mayBePlain], ['https://registry-1.docker.io/v2', false])
    assert.equal(findEndpoints('example.com:5000', { certsDirs: [], insecure: [] })[0]?.mayBePlain, false)
    assert.equal(
      findEndpoints('example.com:5000', { certsDirs: [], insecure: ['example.com:5000'] })[0]?.mayBePlain,
      true,
    )
    assert.equal(findEndpoints('localhost:5000', { certsDirs: [], insecure: [] })[0]?.mayBePlain, true)
    assert.equal(findEndpoints('localhost.example', { certsDirs: [], insecure: [] })[0]?.mayBePlain, false)
  })
})
