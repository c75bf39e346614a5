import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { join } from 'node:path'
import { test } from 'node:test'
import { buildImage, buildTar, RegistryServer, writeOciLayout } from 'loamfs/testing'
import { HttpWorld } from '../../test/support/http-world.ts'

const image = buildImage({ tars: [buildTar([{ name: 'hello', data: 'a file of the layer' }])] })
const LINES = { accept: 'application/x-ndjson' }

function layoutIn(world: HttpWorld): string {
  writeOciLayout(join(world.folder, 'layout'), { x: image })
  return `oci:${join(world.folder, 'layout')}:x`
}

const linesOf = (body: string) =>
  body
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)

test('a pull answers with its result alone, or with lines of events before the result; the image is then listed and inspected', async () => {
  await using world = await HttpWorld.start()
  const name = layoutIn(world)
  const lines = await world.send('POST', '/v1/images/pull', { image: name }, LINES)
  assert.equal(lines.headers['content-type'], 'application/x-ndjson')
  const told = linesOf(lines.text)
  assert.ok(told.slice(0, -1).every((line) => 'event' in line) && told.length > 1)
  const plain = await world.send('POST', '/v1/images/pull', { image: name })
  assert.equal(plain.status, 200)
  const { result } = told.at(-1) as { result: { digest: string } }
  assert.equal(result.digest, image.manifest.digest)
  assert.equal((plain.body as { digest: string }).digest, image.manifest.digest)
  const listed = (await world.send('GET', '/v1/images')).body as { digest: string }[]
  assert.deepEqual(
    listed.map(({ digest }) => digest),
    [image.manifest.digest],
  )
  const inspected = await world.send(
    'GET',
    `/v1/images/inspect?image=${encodeURIComponent(image.manifest.digest)}`,
  )
  assert.deepEqual((inspected.body as { image: unknown }).image, listed[0])
})

test('the contents of an image are listed by directory, and a directory that does not exist is not found', async () => {
  await using world = await HttpWorld.start()
  await world.send('POST', '/v1/images/pull', { image: layoutIn(world) })
  const query = `image=${encodeURIComponent(image.manifest.digest)}`
  const { body } = await world.send('GET', `/v1/images/contents?${query}&layer=0&path=/`)
  const { entries } = body as { entries: { name: string; bytes: number }[] }
  assert.deepEqual(
    entries.map(({ name, bytes }) => [name, bytes]),
    [['hello', 19]],
  )
  assert.equal((await world.send('GET', `/v1/images/contents?${query}&path=/none`)).status, 404)
})

test('an operation that fails answers with the status, code, kind and hint of its error, as a document or as the last line', async () => {
  await using world = await HttpWorld.start()
  const missing = await world.send('GET', '/v1/images/inspect?image=missing')
  assert.equal(missing.status, 404)
  assert.equal(missing.headers['content-type'], 'application/problem+json')
  const { code, kind } = missing.body as { code: string; kind: string }
  assert.deepEqual({ code, kind }, { code: 'IMAGE_NOT_FOUND', kind: 'not_found' })
  const lines = await world.send('POST', '/v1/images/push', { image: 'missing' }, LINES)
  assert.equal(lines.status, 200)
  const { error } = linesOf(lines.text).at(-1) as { error: { code: string; status: number } }
  assert.deepEqual([error.code, error.status], ['IMAGE_NOT_FOUND', 404])
})

test('requests with unknown fields, wrong types, another content type, relative paths, a wrong method or too large a body are refused', async () => {
  await using world = await HttpWorld.start()
  const pull = async (body: unknown, headers: Readonly<Record<string, string>> = {}) =>
    (await world.send('POST', '/v1/images/pull', body, headers)).body as {
      status: number
      code: string
      detail: string
    }
  const refused = [
    await pull({ image: 'x', colour: 'red' }),
    await pull({ image: 1 }),
    await pull('{'),
    await pull([]),
    await pull({ image: 'x' }, { 'content-type': 'text/plain' }),
    await pull({ image: 'oci:./layout:x' }),
    await pull({ image: 'x', certsDir: 'certs' }),
    await pull({ image: 'x'.repeat(2 << 20) }),
    (await world.send('GET', '/v1/images/pull')).body as { status: number; code: string; detail: string },
    (await world.send('GET', '/v1/images?colour=red')).body as {
      status: number
      code: string
      detail: string
    },
    (await world.send('GET', '/v1/containers/inspect?id=a&id=b')).body as {
      status: number
      code: string
      detail: string
    },
  ]
  assert.deepEqual(
    refused.map(({ status, code }) => `${status} ${code}`),
    [
      '400 USAGE',
      '400 USAGE',
      '400 USAGE',
      '400 USAGE',
      '415 USAGE',
      '400 USAGE',
      '400 USAGE',
      '413 USAGE',
      '405 USAGE',
      '400 USAGE',
      '400 USAGE',
    ],
  )
  assert.match(refused[0]?.detail ?? '', /colour/)
})

test('fields where a method does not read them are refused, and nothing is done: the query of POST, the body of GET and DELETE', async () => {
  await using world = await HttpWorld.start()
  await world.send('POST', '/v1/images/pull', { image: layoutIn(world) })
  const id = '{"id":"web"}'
  for (const [method, path, body] of [
    ['POST', '/v1/images/prune?dryRun=true'],
    ['POST', '/v1/images/prune?dryRun=true', '{}'],
    ['POST', '/v1/containers/run?id=web', '{}\n'],
    ['DELETE', '/v1/containers', id],
    ['DELETE', '/v1/containers?id=web', id],
    ['GET', '/v1/containers/inspect?id=web', id],
    ['GET', '/v1/export?name=web&format=tar', id],
    ['GET', '/v1/events', '{"kinds":["end"]}'],
  ] as const) {
    // Node's client tells the length of a body only for methods that usually have one.
    const length = { 'content-length': String(body?.length ?? 0) }
    const { status, body: problem } = await world.send(method, path, body, length)
    assert.deepEqual([status, (problem as { code: string }).code], [400, 'USAGE'], `${method} ${path}`)
  }
  assert.equal(((await world.send('GET', '/v1/images')).body as unknown[]).length, 1)
})

test('a list where a request has an object is refused, and nothing is done', async () => {
  await using world = await HttpWorld.start()
  await world.send('POST', '/v1/images/pull', { image: layoutIn(world) })
  const snapshot = { key: 'x', parent: '', labels: [] }
  for (const [path, body] of [
    ['/v1/images/prune', []],
    ['/v1/ui', []],
    ['/v1/snapshots/prepare', snapshot],
    ['/v1/containers/run', { image: 'x', capabilities: '0', commandInfo: [] }],
    ['/v1/containers/run', { image: 'x', capabilities: '0', commandInfo: { environment: [] } }],
  ] as const) {
    const { status, body: problem } = await world.send('POST', path, body)
    assert.deepEqual([status, (problem as { code: string }).code], [400, 'USAGE'], path)
  }
  assert.equal(((await world.send('GET', '/v1/images')).body as unknown[]).length, 1)
})

test('text that is not UTF-8 is refused, and becomes no other name', async () => {
  await using world = await HttpWorld.start()
  const names = ['hello', 'caf\uFFFD', 'é'].map((name) => ({ name, data: name }))
  const odd = world.layoutOf(buildImage({ tars: [buildTar(names)] }))
  await world.send('POST', '/v1/containers/provision', { image: odd, id: 'web', backend: 'copy' })
  const bytes = (text: string) => Buffer.from(text, 'latin1')
  const files = '/v1/containers/files?id=web&path=/'
  const put = '{"name":"x","labels":{"\\udc00":""}}'
  for (const [method, path, body] of [
    ['GET', `${files}caf%E9`],
    ['GET', `${files}%ED%A0%80`],
    ['GET', `${files}%C3%`],
    ['DELETE', '/v1/containers?id=%E9'],
    ['POST', '/v1/export', bytes('{"name":"web","format":"tar","output":"/x-\xe9.tar"}')],
    ['POST', '/v1/export', '{"name":"web","format":"tar","output":"/x-\\ud800.tar"}'],
    ['POST', '/v1/snapshots/update', put],
    ['POST', '/v1/containers/run', bytes('{"image":"\xe9"}\n')],
    ['POST', '/v1/containers/run', '{"image":"x","capabilities":"0","env":["A=\\ud800"]}\n'],
  ] as const) {
    const { status, body: problem } = await world.send(method, path, body)
    const { code, detail } = problem as { code: string; detail: string }
    assert.deepEqual([status, code], [400, 'USAGE'], `${method} ${path}: ${detail}`)
    assert.match(detail, /UTF-8|Unicode|encoded/)
  }
  for (const name of ['caf%EF%BF%BD', '%c3%a9'])
    assert.equal((await world.send('GET', `${files}${name}`)).status, 200, name)
})

test('a body of unknown length is refused once it is too large; its client reads why, and asks again on the same connection', async () => {
  await using world = await HttpWorld.start()
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const ask = async (method: string, path: string, parts: readonly Buffer[]) => {
    const { promise, resolve, reject } = Promise.withResolvers<number | undefined>()
    const asked = request({
      agent,
      socketPath: world.socket,
      method,
      path,
      headers: { 'content-type': 'application/json' },
    })
    asked.on('error', reject)
    asked.on('response', (response) => {
      response.resume()
      resolve(response.statusCode)
    })
    for (const part of parts) asked.write(part)
    asked.end()
    return promise
  }
  const parts = Array.from({ length: 20 }, () => Buffer.alloc(100_000, ' '))
  try {
    assert.equal(await ask('POST', '/v1/images/pull', parts), 413)
    assert.equal(await ask('GET', '/v1/version', []), 200)
  } finally {
    agent.destroy()
  }
})

test('identical pulls at the same time run once, and the pull is canceled only when the last client has left', async () => {
  await using registry = await RegistryServer.start()
  await using world = await HttpWorld.start()
  registry.addImage('app', '1', image)
  const reached = Promise.withResolvers<void>()
  const released = Promise.withResolvers<void>()
  const blob = `/v2/app/blobs/${image.layers[0]?.digest}`
  registry.intercept = (asked, response) => {
    if (asked.url !== blob) return false
    reached.resolve()
    const answer = async () => {
      await released.promise
      registry.answer(asked, response)
    }
    void answer()
    return true
  }
  const body = { image: `${registry.host}/app:1`, insecure: [registry.host] }
  const leaving = request({
    socketPath: world.socket,
    method: 'POST',
    path: '/v1/images/pull',
    headers: { 'content-type': 'application/json' },
  })
  leaving.on('error', () => undefined)
  leaving.end(JSON.stringify(body))
  await reached.promise
  const staying = [1, 2].map(async () => world.send('POST', '/v1/images/pull', body, LINES))
  // Both have joined before the first one leaves: a request is read before this one is answered.
  await world.send('GET', '/v1/version')
  await world.send('GET', '/v1/version')
  leaving.destroy()
  await world.send('GET', '/v1/version')
  released.resolve()
  for (const { text: answered } of await Promise.all(staying)) {
    const { result } = linesOf(answered).at(-1) as { result: { digest: string } }
    assert.equal(result.digest, image.manifest.digest)
  }
  assert.equal(registry.requests.filter((path) => path.endsWith('/manifests/1')).length, 1)
})

test('a client that closes its connection cancels its operation, and nothing unfinished is left', async () => {
  await using registry = await RegistryServer.start()
  await using world = await HttpWorld.start()
  registry.addImage('app', '1', image)
  const reached = Promise.withResolvers<void>()
  const closed = Promise.withResolvers<void>()
  registry.intercept = (asked, response) => {
    if (!(asked.url ?? '').includes('/blobs/')) return false
    response.on('close', () => {
      closed.resolve()
    })
    reached.resolve()
    return true
  }
  const leaving = request({
    socketPath: world.socket,
    method: 'POST',
    path: '/v1/containers/provision',
    headers: { 'content-type': 'application/json' },
  })
  leaving.on('error', () => undefined)
  leaving.end(JSON.stringify({ image: `${registry.host}/app:1`, insecure: [registry.host], id: 'web' }))
  await reached.promise
  leaving.destroy()
  await closed.promise
  assert.deepEqual((await world.send('GET', '/v1/containers')).body, [])
  assert.deepEqual((await world.send('GET', '/v1/images')).body, [])
})

test('an image is sent as a stream, and a failure before its first byte is a problem document', async () => {
  await using world = await HttpWorld.start()
  await world.send('POST', '/v1/images/pull', { image: layoutIn(world) })
  const asked = request({
    socketPath: world.socket,
    path: `/v1/export?format=tar&name=${image.manifest.digest}`,
  })
  asked.end()
  const [response] = (await once(asked, 'response')) as [NodeJS.ReadableStream & { statusCode: number }]
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(Buffer.from(chunk))
  assert.equal(response.statusCode, 200)
  const tar = join(world.folder, 'exported.tar')
  writeFileSync(tar, Buffer.concat(chunks))
  const { stdout } = spawnSync('tar', ['-xOf', tar, './hello'], { encoding: 'utf8' })
  assert.equal(stdout, 'a file of the layer')
  const missing = await world.send('GET', '/v1/export?format=tar&name=oci:/missing:x')
  assert.equal(missing.headers['content-type'], 'application/problem+json')
  assert.equal((await world.send('GET', '/v1/export?format=none&name=x')).status, 400)
})

test('a client that leaves in the middle of a stream, or never reads it, stops nothing else', async () => {
  await using world = await HttpWorld.start()
  const large = buildImage({ tars: [buildTar([{ name: 'large', data: Buffer.alloc(8 << 20, 'x') }])] })
  writeOciLayout(join(world.folder, 'large'), { x: large })
  await world.send('POST', '/v1/images/pull', { image: `oci:${join(world.folder, 'large')}:x` })
  const get = `GET /v1/export?format=tar&name=${large.manifest.digest} HTTP/1.1\r\nhost: x\r\n\r\n`
  const [reads, never] = [world.connect(), world.connect()]
  reads.write(get)
  never.write(get)
  await once(reads, 'data')
  reads.destroy()
  assert.equal((await world.send('GET', '/v1/images')).status, 200)
  never.destroy()
  assert.equal((await world.send('GET', '/v1/df')).status, 200)
})

test('the settings, the report about the machine, the usage and a check of the store are answered', async () => {
  await using world = await HttpWorld.start()
  const settings = (await world.send('GET', '/v1/config')).body as { name: string; value: unknown }[]
  assert.equal(settings.find(({ name }) => name === 'root')?.value, join(world.folder, 'root'))
  assert.equal(
    ((await world.send('GET', '/v1/doctor')).body as { root: string }).root,
    join(world.folder, 'root'),
  )
  assert.deepEqual(((await world.send('GET', '/v1/df')).body as { images: unknown }).images, [])
  const checked = await world.send('POST', '/v1/fsck', { repair: true }, LINES)
  assert.ok('result' in (linesOf(checked.text).at(-1) ?? {}))
})
