import assert from 'node:assert/strict'
import { mkdtempDisposableSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { status } from '@grpc/grpc-js'
import { openLoam, type SnapshotInfo } from 'loamfs'
import { Client } from '../test/support/client.ts'
import { ContainerdClient } from './containerd-client.ts'
import { createGrpcServer } from './grpc-server.ts'
import { Log } from './log.ts'

test('a server that stops finishes its calls in progress, ends those that take too long, and fails with no client', async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), 'loam-grpc-'))
  const path = (name: string) => join(folder.path, name)
  await using loam = await openLoam({ flags: { root: path('root'), state: path('state') }, env: {} })
  const snapshotter = loam.snapshots.open({})
  using containerd = new ContainerdClient(path('containerd.sock'))
  await snapshotter.prepare('a', '')
  const stat = snapshotter.stat.bind(snapshotter)
  const answerWhileStopping = async (name: string, limitMs: number, isCut = false) => {
    const { promise: mayGoOn, resolve: goOn } = Promise.withResolvers<void>()
    const { promise: isAsked, resolve: asked } = Promise.withResolvers<void>()
    snapshotter.stat = async (key): Promise<SnapshotInfo> => {
      asked()
      await mayGoOn
      return stat(key)
    }
    const server = createGrpcServer(
      { loam, snapshotter, containerd },
      {
        log: new Log('error'),
        activity: loam.activity,
        count: () => undefined,
      },
    )
    const sockets: Socket[] = []
    const accept = (socket: Socket) => {
      sockets.push(socket)
      server.accept(socket)
    }
    await using _listener = createServer(accept).listen(path(name))
    const client = new Client(path(name))
    try {
      const call = client.stat('a')
      call.catch(() => undefined)
      await isAsked
      const stopped = server.stop({ limitMs, lingerMs: 0 })
      if (isCut) sockets[0]?.destroy(new Error('read ECONNRESET'))
      else if (limitMs > 0) goOn()
      else void stopped.then(goOn)
      await stopped
      return isCut ? undefined : (await call).info?.name
    } finally {
      client.close()
    }
  }
  assert.equal(await answerWhileStopping('patient', 60_000), 'a')
  await assert.rejects(answerWhileStopping('impatient', 0), { code: status.CANCELLED })
  await answerWhileStopping('cut', 60_000, true)
})
