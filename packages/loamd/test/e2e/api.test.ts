// The API of the daemon under stress: another daemon on the same store, a kill, faulty clients, and many requests at once.
import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { isLoamError, type LoamError, openLoam } from 'loamfs'
import { connectLoam, type RemoteLoam } from 'loamfs/client'
import { buildImage, buildTar, RegistryServer } from 'loamfs/testing'
import { layoutOf } from '../../../loam/test/support/world.ts'
import { HttpWorld } from '../support/http-world.ts'
import { DaemonWorld } from '../support/world.ts'

const CLIENTS = 30
const CONNECTIONS = 1000
const REMOVED_FILES = 30_000
const LISTS = 200

const image = buildImage({ tars: [buildTar([{ name: 'hello', data: 'a file' }])] })

const apiOf = (world: DaemonWorld) => join(world.state, 'loamd.sock')

test('two daemons on one root serve the same images, and what one pulls the other provisions', async () => {
  await using world = await HttpWorld.start()
  await using second = await HttpWorld.start({ root: join(world.folder, 'root') })
  await using one = await connectLoam({ socket: world.socket })
  await using other = await connectLoam({ socket: second.socket })
  const name = world.layoutOf(image)
  const pulls = await Promise.all([one.pull(name), other.pull(name), one.pull(name)])
  assert.deepEqual(new Set(pulls.map(({ digest }) => digest)), new Set([image.manifest.digest]))
  const made = await Promise.all(
    [one, other, one, other].map(async (loam, index) =>
      loam.provision(image.manifest.digest, { id: `web${index}`, backend: 'copy' }),
    ),
  )
  assert.equal((await other.containers.list()).length, made.length)
  assert.deepEqual(await one.containers.list(), await other.containers.list())
  for (const [index] of made.entries())
    assert.equal(await (index % 2 === 0 ? other : one).destroy(`web${index}`), true)
  assert.deepEqual((await one.store.fsck({ repair: false })).problems, [])
})

test('a daemon that is killed with thirty clients loses nothing: each unanswered call fails, and the next daemon continues', async () => {
  await using world = new DaemonWorld()
  await world.startDaemon()
  const clients = await Promise.all(
    Array.from({ length: CLIENTS }, async () => connectLoam({ socket: apiOf(world) })),
  )
  const { digest } = await (clients[0] as RemoteLoam).pull(layoutOf(world, image))
  const acknowledged = new Set<string>()
  const failures: LoamError[] = []
  const work = clients.map(async (loam, index) => {
    for (let round = 0; ; round += 1) {
      const id = `c${index}-${round}`
      try {
        await loam.provision(digest, { id })
        acknowledged.add(id)
        if (round % 3 !== 2) continue
        await loam.destroy(id)
        acknowledged.delete(id)
      } catch (error) {
        if (!isLoamError(error)) throw error
        // An unanswered call may have completed.
        acknowledged.delete(id)
        failures.push(error)
        return
      }
    }
  })
  while (acknowledged.size < CLIENTS) await new Promise((resolve) => setTimeout(resolve, 10))
  await world.stop('loamd', 'SIGKILL')
  await Promise.all(work)
  // A request that was being sent when it ended did not count.
  assert.equal(failures.length, CLIENTS)
  assert.ok(failures.every(({ code }) => code === 'DAEMON_LOST' || code === 'DAEMON_UNAVAILABLE'))
  assert.ok(failures.every(({ hint }) => hint !== undefined))
  await world.startDaemon()
  // The same clients connect again.
  const [loam] = clients as [RemoteLoam]
  const standing = (await loam.containers.list()).filter(({ rootfses }) =>
    rootfses.every(({ isStanding }) => isStanding),
  )
  const ids = new Set<string>(standing.map(({ id }) => id))
  assert.deepEqual(
    [...acknowledged].filter((id) => !ids.has(id)),
    [],
  )
  assert.deepEqual((await loam.store.fsck({ repair: false })).problems, [])
  for (const id of ids) await loam.destroy(id)
  assert.deepEqual(world.mounts(), [])
  for (const client of clients) await client[Symbol.asyncDispose]()
})

test('clients that send rubbish, stop in the middle, never read or pipeline do not disturb the others', async () => {
  await using world = await HttpWorld.start()
  await using loam = await connectLoam({ socket: world.socket })
  const bodies = [
    '\u0016\u0003\u0001 not HTTP',
    'GET /v1/images HTTP/9.9\r\n\r\n',
    `GET /v1/images HTTP/1.1\r\nhost: x\r\n${'a: b\r\n'.repeat(5000)}\r\n`,
    'POST /v1/images/pull HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"image"',
    'POST /v1/images/pull HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n',
    'POST /v1/images/pull HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
    `${'GET /v1/images HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(500)}rubbish`,
    'GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n',
    'GET //../../etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n',
    'GET /v1/images?x=%zz HTTP/1.1\r\n\r\n',
  ]
  const sockets: Socket[] = []
  for (let round = 0; round < 10; round += 1) {
    for (const body of bodies) {
      const socket = connect(world.socket)
      socket.on('error', () => undefined)
      // None of them reads.
      socket.pause()
      socket.write(body)
      sockets.push(socket)
    }
    assert.deepEqual(await loam.images.list(), [])
  }
  for (const socket of sockets) socket.destroy()
  assert.deepEqual(await loam.images.list(), [])
})

test('a thousand connections at the same time are all answered', async () => {
  await using world = await HttpWorld.start()
  const sockets = Array.from({ length: CONNECTIONS }, () => connect(world.socket))
  await Promise.all(sockets.map(async (socket) => once(socket, 'connect')))
  const answers = sockets.map(async (socket) => {
    socket.write('GET /v1/version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')
    let answer = ''
    for await (const chunk of socket) answer += String(chunk)
    return answer.slice(0, 12)
  })
  assert.deepEqual(new Set(await Promise.all(answers)), new Set(['HTTP/1.1 200']))
})

test('the images are listed while 30,000 files are removed, an image is pulled and the store is checked', async (context) => {
  await using registry = await RegistryServer.start()
  await using world = await HttpWorld.start()
  await using loam = await connectLoam({ socket: world.socket })
  const many = Array.from({ length: 300 }, (_value, directory) => [
    { name: `d${directory}/` },
    ...Array.from({ length: 100 }, (_each, file) => ({ name: `d${directory}/f${file}`, data: 'x' })),
  ]).flat()
  registry.addImage('app', '1', image)
  const large = buildImage({ tars: [buildTar([{ name: 'large', data: Buffer.alloc(64 << 20, 'abc') }])] })
  registry.addImage('large', '1', large)
  const { rootfsPath } = await loam.provision(
    (await loam.pull(`${registry.host}/app:1`, { insecure: [registry.host] })).digest,
    { id: 'web', backend: 'copy' },
  )
  for (const { name, ...rest } of many) {
    if ('data' in rest) writeFileSync(join(rootfsPath, name), 'x')
    else mkdirSync(join(rootfsPath, name))
  }
  const busy = [
    loam.destroy('web'),
    loam.pull(`${registry.host}/large:1`, { insecure: [registry.host] }),
    loam.store.fsck({ repair: false }),
  ]
  const timesMs: number[] = []
  for (let round = 0; round < LISTS; round += 1) {
    const startMs = performance.now()
    const listed = await loam.images.list()
    timesMs.push(performance.now() - startMs)
    assert.ok(listed.length >= 1)
  }
  await Promise.all(busy)
  assert.equal(many.length, REMOVED_FILES + 300)
  const p99 = timesMs.toSorted((one, other) => one - other)[Math.floor(LISTS * 0.99)]
  context.diagnostic(`GET /v1/images: p99 ${p99?.toFixed(1)} ms of ${LISTS}`)
})

test('the library in this process and the daemon work on one store at the same time', async () => {
  await using world = await HttpWorld.start()
  const flags = { root: join(world.folder, 'root'), state: join(world.folder, 'own-state') }
  await using own = await openLoam({ flags, file: null, env: {} })
  await using loam = await connectLoam({ socket: world.socket })
  const name = world.layoutOf(image)
  const [one, other] = await Promise.all([own.pull(name), loam.pull(name)])
  assert.equal(one.digest, other.digest)
  assert.deepEqual(await loam.images.list(), await own.images.list())
})
