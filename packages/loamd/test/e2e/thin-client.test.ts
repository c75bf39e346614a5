// The client of the daemon beside a socket that is not a daemon's, or whose daemon ends at a bad moment.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { chownSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { programPath } from '../../../loam/test/support/test-tools.ts'

/** A listener in the place of the daemon's; it tells what it was sent. */
class FakeDaemon implements AsyncDisposable {
  readonly state = mkdtempSync(join(tmpdir(), 'loam-fake-'))
  connections = 0
  readonly #server = createServer((socket) => {
    this.connections += 1
    socket.on('error', () => socket.destroy())
    this.#onConnection(socket)
  })
  readonly #onConnection: (socket: Socket) => void

  constructor(onConnection: (socket: Socket) => void) {
    this.#onConnection = onConnection
  }

  get socket(): string {
    return join(this.state, 'loamd.sock')
  }

  async listen(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#server.listen(this.socket, resolve)
    await promise
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#server.close(() => {
      resolve()
    })
    await promise
    rmSync(this.state, { recursive: true })
  }
}

async function loam(
  state: string,
  ...args: readonly string[]
): Promise<{ status: number | null; stderr: string }> {
  const child = spawn(programPath('loam'), ['--state', state, '--daemon', 'require', ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const { promise, resolve } = Promise.withResolvers<number | null>()
  child.once('close', resolve)
  return { status: await promise, stderr }
}

test('a socket of another user gets nothing from the client', async () => {
  await using daemon = new FakeDaemon((socket) => socket.destroy())
  await daemon.listen()
  chownSync(daemon.socket, 12_345, 12_345)
  const { status, stderr } = await loam(daemon.state, 'images')
  assert.deepEqual([status, daemon.connections], [1, 0])
  assert.match(stderr, /it belongs to user 12345/)
})

test('the status of a container counts, also when the daemon ends right after it has heard it', async () => {
  const run = { file: '/bin/sh', args: ['-c', 'exit 7'], env: {}, cleanUp: [] }
  await using daemon = new FakeDaemon((socket) => {
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: loam-command\r\n\r\n${JSON.stringify({ run })}\n`,
    )
    socket.on('data', (chunk: Buffer) => {
      if (chunk.includes('{"status":7}')) socket.destroy()
    })
  })
  await daemon.listen()
  const { status, stderr } = await loam(daemon.state, 'run', 'image')
  assert.equal(status, 7, stderr)
})
