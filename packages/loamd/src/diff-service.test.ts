import assert from 'node:assert/strict'
import { mkdtempDisposableSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { create, type DescMethod, type MessageInitShape } from '@bufbuild/protobuf'
import { Client, credentials, status } from '@grpc/grpc-js'
import { openLoam } from 'loamfs'
import { Diff } from '../gen/diff_pb.js'
import { ContainerdClient } from './containerd-client.ts'
import { createGrpcServer } from './grpc-server.ts'
import { Log } from './log.ts'
import { decode, encode } from './messages.ts'

const LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip'
const DIGEST = `sha256:${'a'.repeat(64)}`

/** Makes a call, and returns the name of its status. */
async function statusOf<Method extends DescMethod>(
  client: Client,
  method: Method,
  request: MessageInitShape<Method['input']>,
): Promise<string | undefined> {
  return new Promise((resolve) => {
    client.makeUnaryRequest(
      `/${method.parent.typeName}/${method.name}`,
      encode<Method['input']>(method.input),
      decode<Method['output']>(method.output),
      create<Method['input']>(method.input, request),
      (error) => {
        resolve(error === null ? 'OK' : status[error.code])
      },
    )
  })
}

test('the diff API is unavailable without containerd, and leaves what is not of Loam to other differs', async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), 'loam-diff-'))
  const path = (name: string) => join(folder.path, name)
  await using loam = await openLoam({ flags: { root: path('root'), state: path('state') }, env: {} })
  const snapshotter = loam.snapshots.open({})
  using containerd = new ContainerdClient(path('missing.sock'))
  const observer = { log: new Log('error'), activity: loam.activity, count: () => undefined }
  const server = createGrpcServer({ loam, snapshotter, containerd }, observer)
  await using _listener = createServer(server.accept).listen(path('loamd.sock'))
  const client = new Client(`unix://${path('loamd.sock')}`, credentials.createInsecure())
  try {
    const { apply, diff } = Diff.method
    const mounts = (await snapshotter.prepare('default/1/extract-1 x', '')).map((mount) => ({
      ...mount,
      options: [...mount.options],
    }))
    for (const size of [10n, 0n, -1n])
      assert.equal(
        await statusOf(client, apply, { diff: { digest: DIGEST, mediaType: LAYER, size }, mounts }),
        'UNAVAILABLE',
      )
    // Not read as a layer, but given to the differs of containerd.
    for (const mediaType of [`${LAYER}+encrypted`, 'application/octet-stream', ''])
      assert.equal(
        await statusOf(client, apply, { diff: { digest: DIGEST, mediaType, size: 10n }, mounts }),
        'UNAVAILABLE',
      )
    assert.equal(await statusOf(client, apply, { mounts }), 'INVALID_ARGUMENT')
    assert.equal(
      await statusOf(client, apply, { diff: { digest: 'sha256:x', mediaType: LAYER, size: 1n }, mounts }),
      'INVALID_ARGUMENT',
    )

    const [mount] = mounts
    assert.ok(mount !== undefined)
    writeFileSync(join(mount.source, 'changed'), 'x')
    assert.equal(await statusOf(client, diff, { left: [], right: mounts }), 'UNAVAILABLE')
    const others = [{ ...mount, source: folder.path }]
    assert.equal(await statusOf(client, diff, { left: [], right: others }), 'UNIMPLEMENTED')
    assert.equal(await statusOf(client, diff, { left: mounts, right: mounts }), 'UNIMPLEMENTED')
    const sourceDateEpoch = { seconds: 1n, nanos: 0 }
    assert.equal(await statusOf(client, diff, { right: mounts, sourceDateEpoch }), 'UNIMPLEMENTED')
    assert.equal(await statusOf(client, diff, { right: mounts, mediaType: 'text/plain' }), 'UNIMPLEMENTED')
    assert.deepEqual((await snapshotter.stat('default/1/extract-1 x')).kind, 'active')
  } finally {
    client.close()
    await server.stop({ limitMs: 1000, lingerMs: 0 })
  }
})
