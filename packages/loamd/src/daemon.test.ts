import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openLoam } from 'loamfs'
import { buildImage, buildTar } from 'loamfs/testing'
import { HttpWorld } from '../test/support/http-world.ts'

const FILES = 5_000

test('a daemon that stops waits until canceled operations have cleaned up', async () => {
  await using world = await HttpWorld.start()
  const entries = Array.from({ length: FILES }, (_, number) => ({ name: `file-${number}`, data: 'x' }))
  const image = world.layoutOf(buildImage({ tars: [buildTar(entries)] }))
  await world.send('POST', '/v1/images/pull', { image })
  const headers = { 'content-type': 'application/json' }
  const asked = request({
    socketPath: world.socket,
    method: 'POST',
    path: '/v1/containers/provision',
    headers,
  })
  asked.on('error', () => undefined)
  asked.end(JSON.stringify({ image, id: 'web', backend: 'copy' }))
  const root = join(world.folder, 'root')
  const files = () =>
    readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((path) => path.includes('file-'))
  while (files().length < FILES / 2) await sleep(1)
  asked.destroy()
  await world.stop()
  assert.equal(files().length, 0)
  await using loam = await openLoam({ flags: { root, state: join(world.folder, 'state') }, env: {} })
  assert.deepEqual(await loam.containers.list(), [])
})
