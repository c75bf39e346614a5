import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { HttpWorld } from '../../test/support/http-world.ts'
import { readVersion } from '../version.ts'

test('the daemon answers its version and its store on a socket that its owner alone may use', async () => {
  await using world = await HttpWorld.start()
  const { status, body } = await world.send('GET', '/v1/version')
  assert.deepEqual(
    { status, body },
    {
      status: 200,
      body: { version: readVersion(), api: 'v1', root: join(world.folder, 'root'), pid: process.pid },
    },
  )
  assert.equal(statSync(world.socket).mode & 0o777, 0o600)
})

test('an unknown operation, too large headers and bytes that are not a request are answered by problem documents', async () => {
  await using world = await HttpWorld.start()
  const unknown = await world.send('GET', '/v1/nothing')
  assert.equal(unknown.headers['content-type'], 'application/problem+json')
  assert.deepEqual(unknown.body, {
    type: 'urn:loam:error:USAGE',
    title: 'Invalid request',
    status: 404,
    detail: 'GET /v1/nothing: no such operation',
    code: 'USAGE',
    kind: 'invalid_argument',
    details: {},
    requestId: unknown.headers['x-request-id'],
  })
  const large = await world.sendBytes(
    `GET /v1/version HTTP/1.1\r\nhost: x\r\na: ${'x'.repeat(20_000)}\r\n\r\n`,
  )
  assert.match(large, /^HTTP\/1\.1 431 [^]*"code":"USAGE"/)
  const rubbish = await world.sendBytes('\u0000\u0001 rubbish\r\n\r\n')
  assert.match(rubbish, /^HTTP\/1\.1 400 [^]*"code":"USAGE"/)
  assert.equal((await world.send('GET', '/v1/version')).status, 200)
})

test('a request is served by its path and query, whatever host it names, and also without one', async () => {
  await using world = await HttpWorld.start()
  const close = 'connection: close\r\n\r\n'
  for (const head of [
    `GET /v1/version HTTP/1.1\r\n`,
    `GET /v1/version HTTP/1.1\r\nhost:\r\n`,
    ...['/run/loam/loamd.sock', '%2Frun%2Floam%2Floamd.sock', 'a b', '[::1', 'ü'].map(
      (host) => `GET /v1/version HTTP/1.1\r\nhost: ${host}\r\n`,
    ),
    `GET http://a%2Fb/v1/version HTTP/1.1\r\nhost: x\r\n`,
    `GET /v1/version HTTP/1.1\r\nexpect: the unknown\r\n`,
    `GET /v1/version HTTP/1.0\r\n`,
  ])
    assert.match(await world.sendBytes(`${head}${close}`), /^HTTP\/1\.1 200 [^]*"api":"v1"/, head)
})

test('a request without a path, and one for a proxy, are answered by problem documents', async () => {
  await using world = await HttpWorld.start()
  for (const [line, status] of [
    ['OPTIONS *', 404],
    ['GET \\v1\\version', 400],
    ['GET http://x', 404],
    ['CONNECT x:80', 405],
  ] as const) {
    const answered = await world.sendBytes(`${line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`)
    assert.match(answered, new RegExp(`^HTTP/1.1 ${status} [^]*"code":"USAGE"`), line)
  }
})

test('an upgrade that is not for a command line is ignored', async () => {
  await using world = await HttpWorld.start()
  const upgrade = (path: string, protocol: string) =>
    `POST ${path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: ${protocol}\r\ncontent-length: 0\r\n\r\n`
  for (const [path, protocol] of [
    ['/v1/other', 'loam-command'],
    ['/v1/command', 'websocket'],
  ] as const)
    assert.match(await world.sendBytes(upgrade(path, protocol)), /^HTTP\/1\.1 404 /)
})

test('a daemon that stops closes connections without a request at once', async () => {
  const world = await HttpWorld.start()
  const idle = world.connect()
  const closed = Promise.withResolvers<void>()
  idle.on('close', () => {
    closed.resolve()
  })
  idle.resume()
  await world.send('GET', '/v1/version', undefined, { connection: 'keep-alive' })
  await world[Symbol.asyncDispose]()
  await closed.promise
})
