// The client on connections that a daemon has closed.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempDisposableSync } from 'node:fs'
import { createServer } from 'node:http'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { Transport } from './transport.ts'

const VERSION = { version: '1', api: 'v1', root: '/', pid: 1 }

/** A daemon in a thread of its own, which closes its connections when it gets a message, and then counts up. */
const DAEMON = `
const { parentPort, workerData } = require('node:worker_threads')
const server = require('node:http').createServer((request, response) => {
  request.resume()
  request.on('end', () => response.end(JSON.stringify(request.method === 'GET' ? ${JSON.stringify(VERSION)} : { address: 'x' })))
})
server.listen(workerData.path, () => parentPort.postMessage('ready'))
parentPort.on('message', () => {
  server.closeAllConnections()
  setTimeout(() => {
    Atomics.add(workerData.closed, 0, 1)
    Atomics.notify(workerData.closed, 0)
  }, 50)
})
`

test('a connection that the daemon closed while this process did something else is not used again', async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), 'loam-connections-'))
  const path = join(folder.path, 's.sock')
  const closed = new Int32Array(new SharedArrayBuffer(4))
  const daemon = new Worker(DAEMON, { eval: true, workerData: { path, closed } })
  const transport = new Transport(path)
  try {
    await once(daemon, 'message')
    for (const ask of [
      async () => transport.call('ui.open', {}),
      async () => transport.call('daemon.version', {}),
      async () => transport.call('ui.open', {}),
    ]) {
      // As many connections as requests at the same time.
      await Promise.all([transport.call('daemon.version', {}), transport.call('daemon.version', {})])
      const before = Atomics.load(closed, 0)
      daemon.postMessage('close', [])
      Atomics.wait(closed, 0, before)
      await ask()
    }
  } finally {
    transport.close()
    await daemon.terminate()
  }
})

test('a GET on a connection that is closed under it is sent again on a new one, once; another request is lost', async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), 'loam-connections-'))
  const path = join(folder.path, 's.sock')
  const used = new Set<Socket>()
  const asked: string[] = []
  let isDying = false
  const server = createServer((request, response) => {
    asked.push(request.method ?? '')
    if (isDying || used.has(request.socket)) request.socket.destroy()
    else response.end(JSON.stringify(VERSION))
    used.add(request.socket)
  })
  await once(server.listen(path), 'listening')
  const transport = new Transport(path)
  const version = async () => transport.call('daemon.version', {})
  try {
    assert.deepEqual([await version(), await version()], [VERSION, VERSION])
    assert.deepEqual(asked, ['GET', 'GET', 'GET'])
    await version()
    await assert.rejects(transport.call('ui.open', {}), { code: 'DAEMON_LOST' })
    assert.deepEqual(asked.slice(3), ['GET', 'POST'])
    await version()
    isDying = true
    await assert.rejects(version(), { code: 'DAEMON_LOST' })
    assert.deepEqual(asked.slice(5), ['GET', 'GET', 'GET'])
  } finally {
    transport.close()
    server.close()
  }
})

test('calls in progress are canceled when the connections are closed, and later ones are refused', async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), 'loam-connections-'))
  const path = join(folder.path, 's.sock')
  const arrived = Promise.withResolvers<void>()
  const server = createServer((request, response) => {
    // The head of one answer comes, and no more.
    if (request.url === '/v1/version') response.writeHead(200).write('{')
    else arrived.resolve()
  })
  await once(server.listen(path), 'listening')
  const transport = new Transport(path)
  try {
    const calls = Promise.allSettled([transport.call('daemon.version', {}), transport.call('ui.open', {})])
    await arrived.promise
    transport.close()
    for (const call of await calls)
      assert.equal(call.status === 'rejected' && (call.reason as { code?: string }).code, 'CANCELED')
    await assert.rejects(transport.call('daemon.version', {}), {
      code: 'USAGE',
      message: /the store is closed/,
    })
  } finally {
    server.closeAllConnections()
    server.close()
  }
})
