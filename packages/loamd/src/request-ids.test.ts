import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { Client, credentials, type Metadata, Metadata as Fields } from '@grpc/grpc-js'
import { buildImage, buildTar } from 'loamfs/testing'
import { HttpWorld } from '../test/support/http-world.ts'
import { Snapshots } from '../gen/snapshots_pb.js'
import { identify } from './command/surroundings.ts'
import { readVersion } from './version.ts'

interface Line {
  readonly message: string
  readonly requestId?: string
  readonly traceId?: string
}

const linesOf = (world: HttpWorld) => world.lines.map((line) => JSON.parse(line) as Line)
const TRACE = '0af7651916cd43dd8448eb211c80319c'
const PARENT = `00-${TRACE}-b7ad6b7169203331-01`

test('a request has the id that its client gave it: in the answer, in the problem, in events and in the log', async () => {
  await using world = await HttpWorld.start()
  const layout = world.layoutOf(buildImage({ tars: [buildTar([{ name: 'hello', data: 'x' }])] }))
  const lines = await world.send(
    'POST',
    '/v1/images/pull',
    { image: layout },
    { 'x-request-id': 'deploy-7', traceparent: PARENT },
  )
  assert.equal(lines.headers['x-request-id'], 'deploy-7')
  const missing = await world.send('POST', '/v1/images/push', { image: 'x' }, { 'x-request-id': 'deploy-8' })
  assert.equal((missing.body as { requestId: string }).requestId, 'deploy-8')
  const logged = linesOf(world).filter(({ message }) => message.startsWith('images.'))
  assert.deepEqual(
    logged.map(({ message, requestId, traceId }) => [message, requestId, traceId]),
    [
      ['images.pull', 'deploy-7', TRACE],
      ['images.push', 'deploy-8', undefined],
    ],
  )
})

test('events name the request that they belong to, also those of layers', async () => {
  await using world = await HttpWorld.start()
  const layout = world.layoutOf(buildImage({ tars: [buildTar([{ name: 'hello', data: 'x' }])] }))
  const events = world.connect()
  const told: string[] = []
  events.setEncoding('utf8').on('data', (text: string) => told.push(text))
  events.write('GET /v1/events?kinds=end HTTP/1.1\r\nhost: x\r\n\r\n')
  while (told.length === 0) await new Promise(setImmediate)
  await world.send('POST', '/v1/images/pull', { image: layout }, { 'x-request-id': 'deploy-7' })
  while (!told.join('').includes('"images.pull"')) await new Promise(setImmediate)
  events.destroy()
  const ids = [...told.join('').matchAll(/"requestId":"([^"]*)","operation":"([^"]*)"/g)]
  assert.deepEqual(
    ids.map(([, id, operation]) => [operation, id]),
    [
      ['layer', 'deploy-7'],
      ['images.pull', 'deploy-7'],
    ],
  )
})

test('a request without an id gets one, and so does a request whose id is too long or cannot be printed', async () => {
  await using world = await HttpWorld.start()
  const ids = new Set<unknown>()
  for (const given of [undefined, 'x'.repeat(129), 'two words', 'é']) {
    const headers = given === undefined ? {} : { 'x-request-id': given }
    const answer = await world.send('GET', '/v1/nowhere', undefined, headers)
    const id = answer.headers['x-request-id']
    assert.match(String(id), /^[0-9a-f-]{36}$/)
    assert.equal((answer.body as { requestId: string }).requestId, id)
    ids.add(id)
  }
  assert.equal(ids.size, 4)
  const refused = await world.sendBytes('nonsense\r\n\r\n')
  const [, id = ''] = /x-request-id: ([0-9a-f-]{36})\r\n/.exec(refused) ?? []
  assert.ok(refused.includes(`"requestId":"${id}"`), refused)
  assert.deepEqual(
    linesOf(world)
      .filter(({ message }) => message === 'bad request')
      .map(({ requestId }) => requestId),
    [id],
  )
})

test('a command has the id that its client gave to the request, and else a new one', async () => {
  await using world = await HttpWorld.start()
  const socket = world.connect()
  const said: string[] = []
  socket.setEncoding('utf8').on('data', (text: string) => said.push(text))
  const closed = new Promise((resolve) => socket.once('close', resolve))
  socket.write(
    'POST /v1/command HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: loam-command\r\nx-request-id: job-3\r\n\r\n',
  )
  const places = ['--root', join(world.folder, 'root'), '--state', join(world.folder, 'state')]
  const request = {
    version: readVersion(),
    args: [...places, 'images'],
    cwd: world.folder,
    env: { ...process.env, TRACEPARENT: PARENT },
    surroundings: identify(),
    terminals: [false, false, false],
    columns: [null, null],
  }
  socket.write(`${JSON.stringify(request)}\n`)
  await closed
  assert.match(said.join(''), /^HTTP\/1\.1 101 [^]*x-request-id: job-3\r\n[^]*\{"exit":0\}\n$/)
  const ran = linesOf(world).find(({ message }) => message === 'ran a command')
  assert.equal(ran?.requestId, 'job-3')
})

test('a gRPC call has the id of its metadata, in the answer and in the log, and else a new one', async () => {
  await using world = await HttpWorld.start()
  const client = new Client(`unix://${join(world.folder, 'grpc.sock')}`, credentials.createInsecure())
  const { input, output } = Snapshots.method.stat
  const ask = async (given: Readonly<Record<string, string>>) => {
    const metadata = new Fields()
    for (const [name, value] of Object.entries(given)) metadata.set(name, value)
    const { promise, resolve } = Promise.withResolvers<Metadata>()
    const call = client.makeUnaryRequest(
      `/${Snapshots.typeName}/Stat`,
      (message: typeof request) => Buffer.from(toBinary(input, message)),
      (bytes: Buffer) => fromBinary(output, bytes),
      request,
      metadata,
      () => undefined,
    )
    call.once('metadata', resolve)
    return (await promise).get('x-request-id')[0]
  }
  const request = create(input, { key: 'none' })
  try {
    assert.equal(await ask({ 'x-request-id': 'cri-5', traceparent: PARENT }), 'cri-5')
    assert.match(String(await ask({})), /^[0-9a-f-]{36}$/)
  } finally {
    client.close()
  }
  const first = linesOf(world).find(({ message }) => message === 'Stat')
  assert.deepEqual([first?.requestId, first?.traceId], ['cri-5', TRACE])
})
