import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { type IncomingMessage, request } from 'node:http'
import { join } from 'node:path'
import { test } from 'node:test'
import { buildImage, buildTar, writeOciLayout } from 'loamfs/testing'
import { HttpWorld } from '../../test/support/http-world.ts'

const image = buildImage({ tars: [buildTar([{ name: 'hello', data: 'x' }])] })

type Line = {
  event?: { kind: string; operation: string; attributes?: Record<string, unknown>; error?: { code: string } }
  dropped?: number
}

async function subscribe(world: HttpWorld, query = ''): Promise<IncomingMessage> {
  const asked = request({ socketPath: world.socket, path: `/v1/events${query}` })
  asked.on('error', () => undefined)
  asked.end()
  const [response] = (await once(asked, 'response')) as [IncomingMessage]
  return response
}

async function readUntil(response: IncomingMessage, isLast: (line: Line) => boolean): Promise<Line[]> {
  const lines: Line[] = []
  for await (const text of createInterface({ input: response })) {
    const line = JSON.parse(text) as Line
    lines.push(line)
    if (isLast(line)) break
  }
  return lines
}

const isEndOf =
  (operation: string) =>
  ({ event }: Line) =>
    event?.kind === 'end' && event.operation === operation

test('events report operations: a pull with its layers and its result, and a failed operation with its code', async () => {
  await using world = await HttpWorld.start()
  const response = await subscribe(world)
  writeOciLayout(join(world.folder, 'layout'), { x: image })
  await world.send('POST', '/v1/images/pull', { image: `oci:${join(world.folder, 'layout')}:x` })
  await world.send('POST', '/v1/images/push', { image: 'missing' })
  const lines = await readUntil(response, isEndOf('images.push'))
  const ends = lines.flatMap(({ event }) => (event?.kind === 'end' ? [event] : []))
  assert.deepEqual(
    ends.map(({ operation, error }) => [operation, error?.code]),
    [
      ['layer', undefined],
      ['images.pull', undefined],
      ['images.push', 'IMAGE_NOT_FOUND'],
    ],
  )
  const { digest, layersFetched } = ends[1]?.attributes ?? {}
  assert.deepEqual({ digest, layersFetched }, { digest: image.manifest.digest, layersFetched: 1 })
})

test('events tell of snapshots that are prepared, viewed, changed, committed and removed, by either door', async () => {
  await using world = await HttpWorld.start()
  const response = await subscribe(world, '?operations=snapshots&kinds=end')
  const post = async (operation: string, body: object) =>
    assert.equal((await world.send('POST', `/v1/snapshots/${operation}`, body)).status, 200)
  await post('prepare', { key: 'unpack', parent: '' })
  await post('commit', { key: 'unpack', name: 'layer' })
  await post('view', { key: 'look', parent: 'layer' })
  await post('update', { name: 'look', labels: { a: 'b' } })
  await world.send('DELETE', '/v1/snapshots?key=layer')
  await world.send('DELETE', '/v1/snapshots?key=look')
  await world.send('POST', '/v1/snapshots/prepare', { key: 'x', parent: 'missing' })
  let left = 7
  const lines = await readUntil(response, () => (left -= 1) === 0)
  assert.deepEqual(
    lines.map(({ event }) => [event?.operation, event?.attributes, event?.error?.code]),
    [
      ['snapshots.prepare', { key: 'unpack', parent: '' }, undefined],
      ['snapshots.commit', { key: 'unpack', name: 'layer' }, undefined],
      ['snapshots.view', { key: 'look', parent: 'layer' }, undefined],
      ['snapshots.update', { key: 'look' }, undefined],
      ['snapshots.remove', { key: 'layer' }, 'SNAPSHOT_IN_USE'],
      ['snapshots.remove', { key: 'look' }, undefined],
      ['snapshots.prepare', { key: 'x', parent: 'missing' }, 'SNAPSHOT_NOT_FOUND'],
    ],
  )
})

test('events are limited to operations and kinds that the query names', async () => {
  await using world = await HttpWorld.start()
  const response = await subscribe(world, '?operations=images&operations=store.usage&kinds=end')
  await world.send('POST', '/v1/fsck', {})
  await world.send('GET', '/v1/df')
  const lines = await readUntil(response, () => true)
  assert.deepEqual(
    lines.map(({ event }) => [event?.kind, event?.operation]),
    [['end', 'store.usage']],
  )
  assert.equal((await world.send('GET', '/v1/events?kinds=never')).status, 400)
})

test('a client that reads events too slowly loses some and gets their number, and the daemon keeps only a few', async () => {
  await using world = await HttpWorld.start()
  const response = await subscribe(world)
  response.pause()
  // A name of 700 bytes in each event: more than the socket and the limit together hold.
  const name = `${'long/'.repeat(140)}x`
  for (let round = 0; round < 60; round += 1) {
    await Promise.all(
      Array.from({ length: 40 }, async () => world.send('POST', '/v1/images/push', { image: name })),
    )
  }
  response.resume()
  const reading = readUntil(response, ({ dropped = 0 }) => dropped > 0)
  // The number precedes the next event.
  for (let round = 0; round < 20; round += 1) await world.send('GET', '/v1/df')
  const lines = await reading
  const dropped = lines.reduce((sum, line) => sum + (line.dropped ?? 0), 0)
  assert.ok(dropped > 0, 'no event was dropped')
})

test('a daemon that stops ends its streams of events', async () => {
  const world = await HttpWorld.start()
  const response = await subscribe(world)
  response.resume()
  await Promise.all([once(response, 'end'), world[Symbol.asyncDispose]()])
})
