// Servers that speak another protocol, and answers that are damaged on the way.
import assert from 'node:assert/strict'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { test } from 'node:test'
import { FileClient } from './index.ts'

const BYTES = Buffer.alloc(200_000, 'a')

/** Gets a file from a server that writes `answer` for each request. */
async function getFrom(
  answer: (socket: Socket, request: string, count: number) => void,
): Promise<{ bytes: Buffer; count: number }> {
  let count = 0
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.on('data', (data) => {
      count += 1
      answer(socket, data.toString(), count)
    })
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  try {
    await using client = new FileClient({
      insecure: [],
      certsDirs: [],
      proxy: { httpProxy: '', httpsProxy: '', noProxy: '' },
      stallTimeoutMs: 5000,
      connectTimeoutMs: 5000,
      retry: { tries: 3, baseMs: 5, waitMs: 2500 },
    })
    const chunks: Buffer[] = []
    const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/x`)
    for await (const chunk of client.stream(url)) chunks.push(chunk)
    return { bytes: Buffer.concat(chunks), count }
  } finally {
    server.close()
  }
}

for (const greeting of [
  'SSH-2.0-OpenSSH_9.9\r\n',
  '-ERR unknown command\r\n',
  'HTTP/x 200 OK\r\n\r\n',
  '\x15\x03\x01',
]) {
  test(`a server that answers ${JSON.stringify(greeting)} is told to speak no HTTP, and is asked once`, async () => {
    let asked = 0
    const getting = getFrom((socket, _request, count) => {
      asked = count
      socket.end(greeting)
    })
    await assert.rejects(getting, { code: 'REGISTRY_RESPONSE', message: /the answer is not HTTP/ })
    assert.equal(asked, 1)
  })
}

test('a body that is damaged in the middle is resumed', async () => {
  const half = BYTES.length / 2
  const { bytes, count } = await getFrom((socket, request, asked) => {
    if (asked === 1) {
      socket.write('HTTP/1.1 200 OK\r\netag: "1"\r\ntransfer-encoding: chunked\r\n\r\n')
      socket.write(`${half.toString(16)}\r\n`)
      socket.write(BYTES.subarray(0, half))
      setTimeout(() => socket.write('\r\nno size of a chunk\r\n'), 20)
      return
    }
    assert.match(request, new RegExp(`range: bytes=${half}-`))
    socket.write('HTTP/1.1 206 Partial Content\r\netag: "1"\r\n')
    socket.write(`content-range: bytes ${half}-${BYTES.length - 1}/${BYTES.length}\r\n`)
    socket.write(`content-length: ${half}\r\n\r\n`)
    socket.write(BYTES.subarray(half))
  })
  assert.ok(bytes.equals(BYTES))
  assert.equal(count, 2)
})
