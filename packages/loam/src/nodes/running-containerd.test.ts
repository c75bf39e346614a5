import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createHttp1 } from 'node:http'
import { createServer, type ServerHttp2Stream } from 'node:http2'
import type { Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { askContainerd } from './running-containerd.ts'

/** Asks a server at a socket of its own. */
async function ask(server: Server): Promise<ReturnType<typeof askContainerd>> {
  const folder = mkdtempSync(join(tmpdir(), 'loam-nodes-'))
  const socket = join(folder, 's')
  try {
    await new Promise<void>((resolve) => server.listen(socket, resolve))
    return await askContainerd(socket)
  } finally {
    server.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Answers each call of gRPC with a message and a status. */
function grpcServer(messageOf: (path: string) => Uint8Array, status = '0'): Server {
  const server = createServer()
  server.on('stream', (stream: ServerHttp2Stream, headers) => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
    stream.on('wantTrailers', () => {
      stream.sendTrailers({ 'grpc-status': status, 'grpc-message': 'refused' })
    })
    const message = messageOf(String(headers[':path']))
    const header = Buffer.alloc(5)
    header.writeUInt32BE(message.length, 1)
    stream.end(Buffer.concat([header, message]))
  })
  return server
}

const version = new BinaryWriter()
  .tag(1, WireType.LengthDelimited)
  .string('9.8.7')
  .tag(2, WireType.LengthDelimited)
  .string('revision')
  .finish()
const entry = new BinaryWriter()
  .tag(1, WireType.LengthDelimited)
  .string('root')
  .tag(2, WireType.LengthDelimited)
  .string('/x')
  .finish()
const plugin = new BinaryWriter()
  .tag(1, WireType.LengthDelimited)
  .string('io.containerd.snapshotter.v1')
  .tag(2, WireType.LengthDelimited)
  .string('loam')
  .tag(3, WireType.LengthDelimited)
  .string('a field that is not read')
  .tag(5, WireType.LengthDelimited)
  .bytes(entry)
  .tag(6, WireType.LengthDelimited)
  .string('remap-ids')
  .tag(7, WireType.LengthDelimited)
  .bytes(entry)
  .finish()
const plugins = new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(plugin).finish()

test('a containerd that answers is known by its version and its plugins', async () => {
  const answer = await ask(grpcServer((path) => (path.endsWith('/Plugins') ? plugins : version)))
  assert.deepEqual(answer, {
    version: '9.8.7',
    plugins: [
      {
        type: 'io.containerd.snapshotter.v1',
        id: 'loam',
        hasFailed: true,
        exports: new Map([['root', '/x']]),
        capabilities: ['remap-ids'],
      },
    ],
  })
})

test('whatever else answers at the socket of containerd is reported with the reason', async () => {
  assert.equal(await ask(grpcServer(() => version, '7')), 'status 7: refused')
  assert.equal(typeof (await ask(grpcServer(() => Buffer.from([0x0a, 0xff])))), 'string')
  assert.equal(typeof (await ask(createHttp1((_request, response) => response.end('no')))), 'string')
  assert.equal(await askContainerd('/none.sock'), 'no such socket')
  const folder = mkdtempSync(join(tmpdir(), 'loam-nodes-'))
  try {
    writeFileSync(join(folder, 'file'), '')
    assert.equal(await askContainerd(join(folder, 'file')), 'nothing listens there')
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})
