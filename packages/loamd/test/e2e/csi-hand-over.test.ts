// The CSI driver while one daemon hands over to another: both get calls for the same targets.
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, test } from 'node:test'
import { status } from '@grpc/grpc-js'
import { buildImage, buildTar, RegistryServer } from '../../../loam/src/testing/index.ts'
import { canConnect } from '../../../loam/src/linux/index.ts'
import { Node } from '../../gen/csi_pb.js'
import { capability, CsiClient, failsWith } from '../support/csi.ts'
import { DaemonWorld, until } from '../support/world.ts'

const EPHEMERAL = { 'csi.storage.k8s.io/ephemeral': 'true' }
const { nodePublishVolume, nodeUnpublishVolume, nodeGetVolumeStats } = Node.method

/** A driver whose requests for the manifest of an image are held until `release`, as long as `isHolding`. */
class HandOverWorld implements AsyncDisposable {
  readonly world = new DaemonWorld()
  readonly socket = this.world.path('csi.sock')
  readonly registry: RegistryServer
  isHolding = true
  readonly #held = Promise.withResolvers<void>()
  readonly #answer = Promise.withResolvers<number>()

  private constructor(registry: RegistryServer) {
    this.registry = registry
    registry.addImage('app', '1', buildImage({ tars: [buildTar([{ name: 'file', data: 'one\n' }])] }))
    const answerLater = async (...call: Parameters<RegistryServer['answer']>) => {
      const code = await this.#answer.promise
      if (code === 200) registry.answer(...call)
      else call[1].writeHead(code).end()
    }
    registry.intercept = (asked, response) => {
      if (!this.isHolding || asked.url?.includes('/app/manifests/') !== true) return false
      this.#held.resolve()
      void answerLater(asked, response)
      return true
    }
  }

  static async start(): Promise<HandOverWorld> {
    const own = new HandOverWorld(await RegistryServer.start())
    await own.world.startDaemon('--csi-socket', own.socket)
    await until(async () => canConnect(own.socket), 'the driver listens', 50)
    return own
  }

  /** Resolves when a request is held. */
  get isHeld(): Promise<void> {
    return this.#held.promise
  }

  /** Answers the requests that are held. */
  release(code: number): void {
    this.#answer.resolve(code)
  }

  request(pod: string, attributes: Record<string, string> = {}) {
    const targetPath = this.world.path('kubelet', 'pods', pod, 'mount')
    mkdirSync(dirname(targetPath), { recursive: true })
    const volumeContext = { ...EPHEMERAL, image: `${this.registry.host}/app:1`, ...attributes }
    return { volumeId: `csi-${pod}`, targetPath, volumeCapability: capability(), volumeContext }
  }

  /** Has another daemon take over, and waits until it is the only one that listens. */
  async takeOver(): Promise<void> {
    const old = this.world.pidOf('loamd')
    this.isHolding = false
    process.kill(old, 'SIGHUP')
    const handedOver = async () => readFileSync(this.world.log('loamd'), 'utf8').includes('"handed over"')
    await until(handedOver, 'another daemon serves', 50)
    const listening = / 00010000 .* (\d+) (\S+)$/gm
    const sockets = [...readFileSync('/proc/net/unix', 'utf8').matchAll(listening)]
    const inode = sockets.find(([, , path]) => path === this.socket)?.[1] ?? ''
    await until(async () => !hasOpen(old, `socket:[${inode}]`), 'the old one does not listen', 50)
  }

  /** Waits until the daemon before has ended. */
  async oldHasEnded(): Promise<void> {
    const old = this.world.pidOf('loamd')
    await until(async () => !hasOpen(old, ''), 'the old daemon has ended', 50)
  }

  mountsAt(targetPath: string): number {
    return this.world.mounts().filter((path) => path === targetPath).length
  }

  get containers(): number {
    return readdirSync(join(this.world.root, 'containers')).filter((name) => name.startsWith('csi-')).length
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.release(200)
    await this.world[Symbol.asyncDispose]()
    await this.registry[Symbol.asyncDispose]()
  }
}

/** Returns whether a process has a file open, or any if the text is empty. */
function hasOpen(pid: number, file: string): boolean {
  const folder = `/proc/${pid}/fd`
  try {
    const open = readdirSync(folder).map((fd) => readlinkSync(join(folder, fd)))
    return file === '' ? open.length > 0 : open.includes(file)
  } catch {
    // It is closed, or the process has ended, meanwhile.
    return existsSync(folder) && hasOpen(pid, file)
  }
}

describe('the CSI driver during a hand-over', () => {
  test('the same volume is published once, and another one at its target is refused, while a call waits for each daemon', async () => {
    await using own = await HandOverWorld.start()
    const volume = own.request('both')
    using before = new CsiClient(own.socket)
    const first = before.call(nodePublishVolume, volume)
    await own.isHeld
    await own.takeOver()
    using after = new CsiClient(own.socket)
    await after.call(nodePublishVolume, own.request('other'))
    await failsWith(after.call(nodePublishVolume, volume, 1_500), status.DEADLINE_EXCEEDED)
    own.release(200)
    await first
    writeFileSync(join(volume.targetPath, 'kept'), 'x')
    await after.call(nodePublishVolume, volume)
    await failsWith(
      after.call(nodePublishVolume, own.request('both', { readOnly: 'true' })),
      status.ALREADY_EXISTS,
    )
    assert.equal(readFileSync(join(volume.targetPath, 'kept'), 'utf8'), 'x')
    assert.deepEqual([own.mountsAt(volume.targetPath), own.containers], [1, 2])
    await after.call(nodeUnpublishVolume, volume)
    assert.deepEqual([existsSync(volume.targetPath), own.containers], [false, 1])
  })

  test('a volume whose pull fails in the daemon before is then published by the one that took over, and stays', async () => {
    await using own = await HandOverWorld.start()
    const volume = own.request('failing')
    using before = new CsiClient(own.socket)
    const first = before.call(nodePublishVolume, volume)
    await own.isHeld
    await own.takeOver()
    using after = new CsiClient(own.socket)
    const second = after.call(nodePublishVolume, volume)
    own.release(404)
    await failsWith(first, status.NOT_FOUND)
    await second
    await own.oldHasEnded()
    const { volumeId, targetPath: volumePath } = volume
    assert.equal((await after.call(nodeGetVolumeStats, { volumeId, volumePath })).usage.length, 2)
    assert.equal(own.mountsAt(volume.targetPath), 1)
  })

  test('an operation that no call waits for ends with the hand-over, and calls for its volume go on with the next daemon', async () => {
    await using own = await HandOverWorld.start()
    const volume = own.request('idle')
    using before = new CsiClient(own.socket)
    const busy = before.call(nodePublishVolume, own.request('busy'))
    await own.isHeld
    await failsWith(before.call(nodePublishVolume, volume, 1_000), status.DEADLINE_EXCEEDED)
    await own.takeOver()
    using after = new CsiClient(own.socket)
    await after.call(nodePublishVolume, volume)
    writeFileSync(join(volume.targetPath, 'kept'), 'x')
    own.release(404)
    await failsWith(busy, status.NOT_FOUND)
    await own.oldHasEnded()
    assert.equal(readFileSync(join(volume.targetPath, 'kept'), 'utf8'), 'x')
    await after.call(nodeUnpublishVolume, volume)
    assert.deepEqual([existsSync(volume.targetPath), own.containers], [false, 0])
  })
})
