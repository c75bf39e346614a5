import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isLoamError } from 'loamfs'
import { Channel } from './channel.ts'

/** Connects two ends of a unix socket, for one use. */
async function withSockets(use: (daemon: Socket, client: Socket) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'loam-channel-'))
  const server = createServer()
  try {
    const path = join(folder, 'socket')
    await new Promise<void>((resolve) => server.listen(path, resolve))
    const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve))
    const client = connect(path)
    client.on('error', () => undefined)
    const daemon = await accepted
    daemon.on('error', () => undefined)
    await use(daemon, client)
    client.destroy()
    daemon.destroy()
  } finally {
    server.close()
    rmSync(folder, { recursive: true })
  }
}

test('a client that never reads costs a bounded amount of memory, and is disconnected', async () => {
  await withSockets(async (daemon, client) => {
    client.pause()
    const gone = Promise.withResolvers<void>()
    const channel = new Channel(daemon, () => undefined, gone.resolve)
    const text = 'x'.repeat(1 << 20)
    let sent = 0
    assert.throws(
      () => {
        for (; sent < 100; sent += 1) channel.send({ err: text })
      },
      (error) => isLoamError(error, 'OUTPUT_CLOSED'),
    )
    assert.ok(sent >= 16 && sent < 20, `${sent} MiB`)
    assert.ok(channel.isBehind)
    await gone.promise
    assert.equal(channel.isOpen, false)
  })
})

test('lines arrive whole however they are cut, and one without an end closes the connection', async () => {
  await withSockets(async (daemon, client) => {
    const lines: string[] = []
    const gone = Promise.withResolvers<void>()
    const channel = new Channel(daemon, (line) => lines.push(line), gone.resolve)
    for (const byte of Buffer.from('{"answer":"ä€"}\n\nlast\n')) channel.read(Buffer.from([byte]))
    assert.deepEqual(lines, ['{"answer":"ä€"}', '', 'last'])
    for (let sent = 0; sent <= 8; sent += 1) channel.read(Buffer.alloc(1 << 20, 'x'))
    await gone.promise
    client.destroy()
  })
})
