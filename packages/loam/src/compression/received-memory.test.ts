import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { rounds } from '../../test/support/rounds.ts'
import { releaseChunk } from './chunk-memory.ts'
import { readIntoSlabs } from './received-memory.ts'

async function send(socket: Socket, pieces: readonly Buffer[]): Promise<void> {
  for (const piece of pieces) {
    socket.write(piece)
    await new Promise(setImmediate)
  }
  socket.end()
}

/** Sends pieces over a socket to a reader that reads into slabs. */
async function receive(pieces: readonly Buffer[], onChunk: (chunk: Buffer) => void): Promise<void> {
  const server = createServer((socket) => {
    void send(socket, pieces)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    const { port } = server.address() as AddressInfo
    const socket = connect({ host: '127.0.0.1', port, onread: readIntoSlabs() })
    for await (const chunk of socket) onChunk(chunk as Buffer)
  } finally {
    server.close()
  }
}

test('a socket that reads into slabs gives all bytes in order, and those that are kept stay as they were received', async () => {
  const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 3000 }), fc.integer({ min: 1, max: 400_000 })), {
    minLength: 1,
    maxLength: 12,
  })
  const check = async (given: readonly number[], isKept: readonly boolean[]) => {
    const pieces = given.map((bytes) => randomBytes(bytes))
    const received: Buffer[] = []
    let chunks = 0
    await receive(pieces, (chunk) => {
      // What is kept is compared at the end, when other chunks have been read into the memory of those that were released.
      if (isKept[chunks % isKept.length] === true) received.push(chunk)
      else {
        received.push(Buffer.from(chunk))
        releaseChunk(chunk)
      }
      chunks += 1
    })
    assert.ok(Buffer.concat(received).equals(Buffer.concat(pieces)))
  }
  const kept = fc.array(fc.boolean(), { minLength: 1, maxLength: 5 })
  await fc.assert(fc.asyncProperty(sizes, kept, check), { numRuns: rounds(50, 15) })
})

test('memory of a socket that is released is used again', async () => {
  const seen = new Set<ArrayBufferLike>()
  const pieces = Array.from({ length: 128 }, () => Buffer.alloc(256 << 10))
  await receive(pieces, (chunk) => {
    seen.add(chunk.buffer)
    releaseChunk(chunk)
  })
  assert.ok(seen.size <= 8, `${seen.size} pieces of memory for 32 MiB`)
})
