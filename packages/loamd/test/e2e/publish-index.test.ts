// Lazy indexes that a daemon publishes after a pull.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connectLoam, type RemoteLoam } from 'loamfs/client'
import { lazyArtifactTag, MEDIA_TYPES } from '../../../loam/src/image/index.ts'
import { buildImage, buildTar, RegistryServer, writeOciLayout } from '../../../loam/src/testing/index.ts'
import { DebianRegistry, must } from '../../../loam/test/support/world.ts'
import { DaemonWorld } from '../support/world.ts'

const image = buildImage({ tars: [buildTar([{ name: 'file', data: 'x' }])] })

/** Pulls an image, and returns the error with which its indexing ended. */
async function pull(daemon: RemoteLoam, name: string): Promise<string | undefined> {
  const filter = { operations: ['images.index'] }
  const events = daemon.events(filter, { signal: AbortSignal.timeout(60_000) })
  // It reads ahead from here on.
  const next = events.next()
  await daemon.pull(name)
  for (let event = await next; event.done !== true; event = await events.next())
    if (event.value.kind === 'end') return event.value.error?.message
  return 'no event'
}

test('a daemon publishes lazy indexes after it has answered a pull, and an event says how that ended', async () => {
  await using world = new DaemonWorld()
  using registry = await DebianRegistry.start()
  const name = `${registry.host}/app:1`
  writeOciLayout(world.path('layout'), { app: image })
  must(
    'skopeo',
    'copy',
    '-q',
    '--dest-tls-verify=false',
    `oci:${world.path('layout')}:app`,
    `docker://${name}`,
  )
  await world.startDaemonWith({ LOAM_LAZY_INDEX: 'publish' })
  await using daemon = await connectLoam({ socket: world.apiSocket })
  assert.equal(await pull(daemon, name), undefined)
  const artifact = await fetch(
    `http://${registry.host}/v2/app/manifests/${lazyArtifactTag(image.manifest.digest)}`,
    { headers: { accept: MEDIA_TYPES.ociManifest } },
  )
  assert.equal(artifact.status, 200)
  await artifact.body?.cancel()

  await using server = await RegistryServer.start()
  server.addImage('app', '1', image)
  assert.match((await pull(daemon, `${server.host}/app:1`)) ?? '', /upload blob|404/)
})
