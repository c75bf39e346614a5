import assert from 'node:assert/strict'
import { closeSync, mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { NotifySocket } from '../../test/support/notify-socket.ts'
import { isErrno, isLoamError } from '../errors/index.ts'
import { listenOnUnixSocket, sendDatagram } from './unix-socket.ts'

test('a datagram reaches a socket at a path and one with an abstract name, and fails where no socket is or its queue is full', () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-socket-'))
  try {
    for (const path of [join(folder, 'notify'), `@loam-test-${process.pid}`]) {
      using receiver = new NotifySocket(path)
      sendDatagram(path, 'READY=1\nSTATUS=größer')
      assert.deepEqual(receiver.receive(), ['READY=1\nSTATUS=größer'])
    }
    assert.throws(
      () => sendDatagram(join(folder, 'absent'), 'x'),
      (error) => isErrno(error, 'ENOENT'),
    )
    for (const path of ['vsock:2:1234', '/', `/${'x'.repeat(107)}`]) {
      assert.throws(
        () => sendDatagram(path, 'x'),
        (error) => isLoamError(error, 'USAGE'),
      )
    }
    using full = new NotifySocket(join(folder, 'full'))
    assert.throws(
      () => {
        for (;;) sendDatagram(full.path, 'x')
      },
      (error) => isErrno(error, 'EAGAIN'),
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('Node serves a unix socket by its descriptor, and a path that exists is not taken over', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-socket-'))
  try {
    const path = join(folder, 'api')
    const fd = listenOnUnixSocket(path)
    assert.throws(
      () => closeSync(listenOnUnixSocket(path)),
      (error) => isErrno(error, 'EADDRINUSE'),
    )
    const server = createServer((socket) => socket.end('hello'))
    server.listen({ fd })
    const client = connect(path)
    const chunks: Buffer[] = []
    for await (const chunk of client) chunks.push(chunk as Buffer)
    assert.equal(Buffer.concat(chunks).toString(), 'hello')
    server.close()
  } finally {
    rmSync(folder, { recursive: true })
  }
})
