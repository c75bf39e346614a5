import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdirSync, mkdtempDisposableSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { HandlerClient } from './client.ts'
import { lazyPaths } from './lazy-paths.ts'

test('an answer of a handler that this version cannot read is LAZY_UNAVAILABLE', async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), 'loam-lazy-client-'))
  const { socket } = lazyPaths(folder.path)
  mkdirSync(dirname(socket), { recursive: true })
  const server = createServer((client) => {
    client.on('error', () => undefined)
    client.end('{"kind":"status","status":{}}\n')
  })
  await once(server.listen(socket), 'listening')
  try {
    const client = new HandlerClient(folder.path, async () => undefined)
    await assert.rejects(client.status(), { code: 'LAZY_UNAVAILABLE' })
  } finally {
    server.close()
  }
})
