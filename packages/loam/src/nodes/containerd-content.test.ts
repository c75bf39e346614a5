import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Http2Server, type ServerHttp2Stream } from 'node:http2'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { digestOf } from '../image/index.ts'
import { ContainerdContent } from './containerd-content.ts'
import { readFields, writeFields } from './protobuf.ts'

const CALL = { namespace: 'k8s.io', lease: 'l' }
const data = Buffer.alloc((1 << 20) + 5, 'x')
const blob = { digest: digestOf(data), sizeBytes: data.length, labels: { one: 'two' } }
const open = () => Readable.from([data.subarray(0, 7), data.subarray(7)])

/** Calls a client of a server that answers each message of a call by `answer`, and ends the call with a status when that is defined. */
async function withServer(
  answer: (path: string, request: Buffer) => string | undefined,
  act: (client: ContainerdContent) => Promise<void>,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'loam-nodes-'))
  const server: Http2Server = createServer()
  server.on('stream', (stream: ServerHttp2Stream, headers) => {
    assert.equal(headers['containerd-namespace'], 'k8s.io')
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
    let status = '0'
    stream.on('error', () => undefined)
    stream.on('wantTrailers', () => {
      stream.sendTrailers({ 'grpc-status': status, 'grpc-message': 'no%20room' })
    })
    let held = Buffer.alloc(0)
    stream.on('data', (chunk: Buffer) => {
      held = Buffer.concat([held, chunk])
      while (held.length >= 5 && held.length >= 5 + held.readUInt32BE(1)) {
        const end = 5 + held.readUInt32BE(1)
        const failed = answer(String(headers[':path']).split('/').at(-1) ?? '', held.subarray(5, end))
        held = held.subarray(end)
        if (failed === undefined) stream.write(Buffer.alloc(5))
        else {
          status = failed
          stream.end()
        }
      }
    })
    stream.on('end', () => stream.end())
  })
  try {
    const socket = join(folder, 's')
    await new Promise<void>((resolve) => server.listen(socket, resolve))
    using client = new ContainerdContent(socket)
    await act(client)
  } finally {
    server.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

test('a blob is written in messages of at most a mebibyte, and committed with its digest and its labels', async () => {
  const parts: Buffer[] = []
  let committed = ''
  await withServer(
    (path, request) => {
      assert.equal(path, 'Write')
      readFields(request, {
        4: (reader) => {
          assert.equal(reader.string(), blob.digest)
        },
        6: (reader) => {
          parts.push(Buffer.from(reader.bytes()))
        },
        7: (reader) => {
          committed = Buffer.from(reader.bytes()).toString('hex')
        },
      })
      return undefined
    },
    async (client) => client.write({ ...blob, data: open() }, CALL),
  )
  assert.ok(Buffer.concat(parts).equals(data))
  assert.ok(parts.every(({ length }) => length <= 1 << 20))
  assert.equal(committed, Buffer.from(writeFields({ 1: 'one', 2: 'two' })).toString('hex'))
})

test('a blob that containerd refuses is aborted, and the error says why', async () => {
  const calls: string[] = []
  await withServer(
    (path) => {
      calls.push(path)
      return path === 'Write' ? '8' : undefined
    },
    async (client) => {
      await assert.rejects(client.write({ ...blob, data: open() }, CALL), (error) => {
        assert.ok(isLoamError(error, 'NO_SPACE'))
        assert.match(error.message, /^write sha256:\S+: containerd at \S+: no room$/)
        return true
      })
    },
  )
  assert.deepEqual(calls, ['Write', 'Abort'])
})

test('a blob that another client has written meanwhile gets the labels', async () => {
  const calls: string[] = []
  await withServer(
    (path) => {
      calls.push(path)
      return path === 'Write' ? '6' : undefined
    },
    async (client) => client.write({ ...blob, data: open() }, CALL),
  )
  assert.deepEqual(calls, ['Write', 'Update'])
})

test('a containerd that does not answer is named with the setting of its socket', async () => {
  using client = new ContainerdContent('/none.sock')
  await assert.rejects(client.images(CALL), (error) => {
    assert.ok(isLoamError(error, 'DAEMON_UNAVAILABLE'))
    assert.match(error.hint ?? '', /containerd_socket/)
    return true
  })
})

test('a call ends when its signal fires', async () => {
  const stop = new AbortController()
  await withServer(
    () => {
      stop.abort()
      return undefined
    },
    async (client) => {
      await assert.rejects(client.write({ ...blob, data: open() }, { ...CALL, signal: stop.signal }))
    },
  )
})
