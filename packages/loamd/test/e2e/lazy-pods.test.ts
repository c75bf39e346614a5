// Pods whose images are pulled lazily, with containerd of Debian's newest release or of Debian 12.
import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { connectLoam } from 'loamfs/client'
import { buildImage, buildTar, RegistryServer } from '../../../loam/src/testing/index.ts'
import { endHandlers } from '../../../loam/test/support/lazy-world.ts'
import { busyboxEntries } from '../../../loam/test/support/world.ts'
import { CONTAINERD_1, CONTAINERD_2 } from '../support/containerd-release.ts'
import { Cri } from '../support/cri.ts'
import { DaemonWorld, ok, until } from '../support/world.ts'

const IDLE = ['/bin/sh', '-c', 'sleep 1000']
const image = buildImage({
  tars: [
    buildTar([
      ...busyboxEntries(['sh', 'cat', 'sleep']),
      ...['tmp/', 'proc/', 'sys/', 'dev/', 'etc/'].map((name) => ({ name })),
    ]),
    buildTar([{ name: 'data/' }, { name: 'data/file', data: 'here' }]),
  ],
  config: { Cmd: IDLE, Env: ['PATH=/bin'] },
  compression: 'gzip',
})
const [, data] = image.diffIds

test('a pod starts before the data of its image is here, and a read of it waits until the registry sends it', async () => {
  await using world = new DaemonWorld(CONTAINERD_2.skip === false ? CONTAINERD_2 : CONTAINERD_1)
  await using registry = await RegistryServer.start()
  registry.addImage('app', '1', image)
  const name = `${registry.host}/app:1`
  const indexes = world.path('indexes')
  ok(await world.loamAsync('index', '--output', indexes, name))
  let isGone = true
  registry.intercept = (request, response) => {
    const isRefused = isGone && request.url?.endsWith(`/blobs/${image.layers[1]?.digest}`) === true
    if (isRefused) response.writeHead(503).end()
    return isRefused
  }
  await world.startDaemonWith(
    { LOAM_LAZY_TRUST: 'own', LOAM_LAZY_INDEX_DIR: indexes },
    '--containerd-socket',
    world.containerdSocket,
  )
  for (const folder of ['cni/bin', 'logs']) mkdirSync(world.path(folder), { recursive: true })
  await world.startContainerdWithPods(name)
  const cri = new Cri(world.containerdSocket, world.path('logs'))
  try {
    await until(async () => cri.isReady(), 'CRI answers', 100)
    await cri.pull(name)
    const pod = await cri.runPod()
    const id = await cri.startContainer(pod, { image: name, command: IDLE })
    await using loam = await connectLoam({ socket: world.apiSocket })
    const find = async () => (await loam.store.partialLayers()).find(({ diffId }) => diffId === data)
    assert.equal((await find())?.presentBytes, 0)
    const reading = cri.exec(id, '/bin/cat', '/data/file')
    while (((await find())?.waitingReads ?? 0) === 0) await sleep(50)
    while ((await find())?.failure === undefined) await sleep(50)
    assert.match((await find())?.failure ?? '', /503/)
    isGone = false
    assert.equal(await reading, 'here')
    await cri.removeContainer(id)
    await cri.removePod(pod)
    await cri.removeImage(name)
  } finally {
    cri.close()
    endHandlers(world.state)
  }
})
