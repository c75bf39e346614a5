import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { once } from 'node:events'
import { test } from 'node:test'
import { DOWNLOADS, RESULT_TRAILER, SUBSCRIPTIONS } from 'loamfs/internal'
import { buildImage, buildTar } from 'loamfs/testing'
import { HttpWorld } from '../../test/support/http-world.ts'

const LARGE = 8 << 20
/** Paths of all answers that are streams. */
const STREAMS = [...Object.values(DOWNLOADS), ...Object.values(SUBSCRIPTIONS)].map(({ path }) => path)

/** Begins to download a container, and reads no more than the first bytes. */
async function download(world: HttpWorld, name: string): Promise<Socket> {
  const socket = world.connect()
  socket.on('error', () => undefined)
  socket.write(`GET /v1/export?name=${name}&format=tar HTTP/1.1\r\nhost: x\r\n\r\n`)
  await once(socket, 'readable')
  assert.match(String(socket.read(12)), / 200$/)
  return socket
}

async function provision(world: HttpWorld, id: string): Promise<void> {
  const image = world.layoutOf(buildImage({ tars: [buildTar([{ name: id, data: randomBytes(LARGE) }])] }))
  const { status, text } = await world.send('POST', '/v1/containers/provision', {
    image,
    id,
    backend: 'copy',
  })
  assert.equal(status, 200, text)
}

test('downloads without readers occupy no thread that other work needs', async () => {
  await using world = await HttpWorld.start()
  await provision(world, 'first')
  // At least as many as there are threads for layers.
  const unread: Socket[] = []
  try {
    for (let count = 0; count < 4; count += 1) unread.push(await download(world, 'first'))
    await provision(world, 'second')
  } finally {
    for (const socket of unread) socket.destroy()
  }
})

test('a download ends when its client reads nothing for fetcher_stall_timeout, and the container can be destroyed', async () => {
  await using world = await HttpWorld.start({ fetcher_stall_timeout: '300ms' })
  await provision(world, 'web')
  const socket = await download(world, 'web')
  try {
    const { status } = await world.send('DELETE', '/v1/containers?id=web')
    assert.equal(status, 200)
  } finally {
    socket.destroy()
  }
})

test('a client of HTTP/1.0, as a proxy is one by default, gets each stream without chunks and without a trailer', async () => {
  await using world = await HttpWorld.start()
  const image = world.layoutOf(buildImage({ tars: [buildTar([{ name: 'hello', data: 'a file' }])] }))
  await world.send('POST', '/v1/containers/provision', { image, id: 'web', backend: 'copy' })
  for (const path of [
    '/v1/export?name=web&format=tar',
    '/v1/containers/files?id=web&path=/hello',
    `/v1/images/save?images=${encodeURIComponent(image)}`,
  ]) {
    const answered = await world.sendBytes(`GET ${path} HTTP/1.0\r\n\r\n`)
    const end = answered.indexOf('\r\n\r\n')
    assert.match(answered.slice(0, end), /^HTTP\/1\.1 200 (?![^]*(?:trailer|transfer-encoding):)/i, path)
    // A tar of whole blocks.
    assert.equal((answered.length - end - 4) % 512, 0, path)
    assert.match(answered, /hello|manifest/, path)
  }
  const { headers } = await world.send('GET', '/v1/export?name=web&format=tar')
  assert.equal(headers.trailer, RESULT_TRAILER)
})

test('a HEAD of a stream is refused, and makes none; that of a document is answered without it', async () => {
  await using world = await HttpWorld.start()
  for (const path of STREAMS) {
    const { status, headers, text } = await world.send('HEAD', path)
    assert.deepEqual([status, text], [405, ''], path)
    assert.match(headers.allow ?? '', /\bGET\b/, path)
  }
  const { status, headers, text } = await world.send('HEAD', '/v1/version')
  assert.deepEqual([status, headers['content-type'], text], [200, 'application/json', ''])
})
