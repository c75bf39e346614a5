import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import { once } from 'node:events'
import { test } from 'node:test'
import { buildImage, buildTar } from 'loamfs/testing'
import { HttpWorld } from '../../test/support/http-world.ts'

const LARGE = 8 << 20

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
