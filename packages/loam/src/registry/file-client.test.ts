// Files of web servers: nothing verifies their bytes, so that all of them must be of one version.
import assert from 'node:assert/strict'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, test } from 'node:test'
import { FileClient } from './index.ts'

const OLD = Buffer.alloc(300_000, 'a')
const CUT_AT = 100_000
const options = {
  insecure: [],
  certsDirs: [],
  proxy: { httpProxy: '', httpsProxy: '', noProxy: '' },
  stallTimeoutMs: 5000,
  connectTimeoutMs: 5000,
  retry: { tries: 3, baseMs: 5, waitMs: 2500 },
}

let server: Server | undefined
afterEach(() => {
  server?.close()
  server?.closeAllConnections()
})

type Headers = Readonly<Record<string, string>>

/** Sends a file, or the requested part of it, without a look at If-Range, as many servers do. */
function send(
  { headers }: IncomingMessage,
  response: ServerResponse,
  bytes: Buffer,
  { own, hasRanges = true }: { own: Headers; hasRanges?: boolean },
) {
  const from = Number(/^bytes=(\d+)-/.exec(headers.range ?? '')?.[1] ?? -1)
  if (from < 0 || !hasRanges) response.writeHead(200, { ...own, 'content-length': bytes.length }).end(bytes)
  else if (from >= bytes.length)
    response.writeHead(416, { ...own, 'content-range': `bytes */${bytes.length}` }).end()
  else
    response
      .writeHead(206, { ...own, 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` })
      .end(bytes.subarray(from))
}

/** Gets a file whose first transfer is cut after some bytes; `next` sends what is asked for afterwards. */
async function getCut(
  first: Headers,
  next: (request: IncomingMessage, response: ServerResponse) => void,
  cutAt = CUT_AT,
): Promise<{ bytes: () => Promise<Buffer>; asked: IncomingMessage['headers'][] }> {
  const asked: IncomingMessage['headers'][] = []
  server = createServer((request, response) => {
    asked.push(request.headers)
    if (asked.length > 1) {
      next(request, response)
      return
    }
    response.writeHead(200, first).flushHeaders()
    const stop = () => setTimeout(() => response.destroy(), 20)
    if (cutAt === 0) stop()
    else response.write(OLD.subarray(0, cutAt), stop)
  })
  await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve))
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/x.tar`)
  const bytes = async () => {
    await using client = new FileClient(options)
    const chunks: Buffer[] = []
    for await (const chunk of client.stream(url)) chunks.push(chunk)
    return Buffer.concat(chunks)
  }
  return { bytes, asked }
}

const length = { 'content-length': String(OLD.length) }
const date = 'Mon, 01 Jan 2024 00:00:00 GMT'
const changed = { code: 'REGISTRY_RESPONSE', message: /the file changed while it was transferred/ }

describe('a file that is resumed', () => {
  const same: [string, Headers, string | undefined][] = [
    ['an ETag', { etag: '"1"', ...length }, '"1"'],
    ['an ETag and no size', { etag: '"1"' }, '"1"'],
    ['a weak ETag and a date', { etag: 'W/"1"', 'last-modified': date, ...length }, date],
    ['a date', { 'last-modified': date, ...length }, date],
    ['its size alone', length, undefined],
  ]
  for (const [what, headers, condition] of same) {
    for (const hasRanges of [true, false]) {
      test(`goes on as the version that it began as, by ${what}${hasRanges ? '' : ', without ranges'}`, async () => {
        const { 'content-length': _, ...own } = headers
        const file = await getCut(headers, (...to) => {
          send(...to, OLD, { own, hasRanges })
        })
        assert.ok((await file.bytes()).equals(OLD))
        assert.deepEqual(
          file.asked.map((each) => [each.range, each['if-range']]),
          [
            [undefined, undefined],
            [`bytes=${CUT_AT}-`, condition],
          ],
        )
      })
    }
  }

  const others: [string, Headers, Buffer, Headers][] = [
    ['another ETag', { etag: '"1"', ...length }, Buffer.alloc(OLD.length, 'b'), { etag: '"2"' }],
    ['another ETag, and had no size', { etag: '"1"' }, Buffer.alloc(OLD.length, 'b'), { etag: '"2"' }],
    [
      'a later date',
      { 'last-modified': date, ...length },
      Buffer.alloc(OLD.length, 'b'),
      { 'last-modified': 'Mon, 01 Jan 2024 00:00:01 GMT' },
    ],
    ['more bytes', length, Buffer.alloc(OLD.length + 1, 'b'), {}],
    ['fewer bytes', length, Buffer.alloc(OLD.length - 1, 'b'), {}],
    ['fewer bytes than were received', length, Buffer.alloc(CUT_AT - 1, 'b'), {}],
  ]
  for (const [what, first, bytes, own] of others) {
    for (const hasRanges of [true, false]) {
      test(`ends with an error if it has ${what} now${hasRanges ? '' : ' and comes whole'}`, async () => {
        const file = await getCut(first, (...to) => {
          send(...to, bytes, { own, hasRanges })
        })
        await assert.rejects(file.bytes(), changed)
      })
    }
  }

  test('begins again with another version if nothing of it was received', async () => {
    const now = Buffer.alloc(OLD.length + 5, 'b')
    const next = (...to: [IncomingMessage, ServerResponse]) => {
      send(...to, now, { own: { etag: '"2"' } })
    }
    const file = await getCut({ etag: '"1"', ...length }, next, 0)
    assert.ok((await file.bytes()).equals(now))
    assert.equal(file.asked[1]?.['if-range'], undefined)
  })

  test('is not resumed if nothing shows its version', async () => {
    const file = await getCut({}, (...to) => {
      send(...to, OLD, { own: {} })
    })
    await assert.rejects(file.bytes(), { code: 'REGISTRY_UNREACHABLE' })
    assert.equal(file.asked.length, 1)
  })

  test('has as many bytes as were announced', async () => {
    const file = await getCut({ etag: '"1"', ...length }, (request, response) => {
      const from = Number(/\d+/.exec(request.headers.range ?? '')?.[0])
      response.writeHead(206, {
        etag: '"1"',
        'content-range': `bytes ${from}-${OLD.length - 1}/${OLD.length}`,
      })
      response.end(Buffer.alloc(OLD.length))
    })
    await assert.rejects(file.bytes(), { code: 'SIZE_MISMATCH', message: /expected 300000 bytes/ })
  })
})
