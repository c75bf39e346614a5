import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempDisposableSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { spawn } from 'node:child_process'
import { test } from 'node:test'
import { peerGroups, peerUser } from '../../src/linux/index.ts'

for (const count of [0, 1, 255, 256, 257, 5000])
  test(`a peer with ${count} further groups is known with all of them`, async () => {
    using folder = mkdtempDisposableSync(join(tmpdir(), 'loam-peer-'))
    const path = join(folder.path, 'socket')
    const server = createServer().listen(path)
    const groups = Array.from({ length: count }, (_value, index) => 10_000 + index)
    const script = `import os, socket
os.setgroups(range(10000, 10000 + ${count})); os.setgid(77); os.setuid(0)
s = socket.socket(socket.AF_UNIX); s.connect(${JSON.stringify(path)}); s.recv(1)`
    const client = spawn('python3', ['-c', script], { stdio: 'inherit' })
    const ended = once(client, 'exit')
    try {
      const connected = once(server, 'connection') as Promise<[Socket]>
      const [socket] = await Promise.race([connected, ended.then(() => assert.fail('the client has ended'))])
      assert.deepEqual([peerUser(socket), peerGroups(socket)], [0, [77, ...groups]])
      socket.destroy()
    } finally {
      client.kill()
      await ended
      server.close()
    }
  })
