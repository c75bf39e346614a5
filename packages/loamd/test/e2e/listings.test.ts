// What a running daemon lists needs no lock of the store.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { connectLoam } from 'loamfs/client'
import { FileLock } from '../../../loam/src/linux/index.ts'
import { buildImage, buildTar, RegistryServer } from '../../../loam/src/testing/index.ts'
import { programPath } from '../../../loam/test/support/test-tools.ts'
import { DaemonWorld } from '../support/world.ts'

test('ps and images of a running daemon answer while a pull is under way and others hold every lock of the store', async () => {
  await using registry = await RegistryServer.start()
  const [small, large] = ['small', 'large'].map((data) =>
    buildImage({ tars: [buildTar([{ name: 'hello', data }])] }),
  )
  assert.ok(small !== undefined && large !== undefined)
  registry.addImage('small', '1', small)
  registry.addImage('large', '1', large)
  await using world = new DaemonWorld()
  await world.startDaemon()
  await using daemon = await connectLoam({ socket: world.apiSocket })
  await daemon.provision(`${registry.host}/small:1`, { id: 'web' })
  const isStalled = Promise.withResolvers<void>()
  registry.intercept = ({ url = '' }) => {
    const isBlob = url.endsWith(large.layers[0]?.digest ?? '')
    if (isBlob) isStalled.resolve()
    return isBlob
  }
  const stop = new AbortController()
  const pull = daemon.pull(`${registry.host}/large:1`, { signal: stop.signal })
  const refused = assert.rejects(pull)
  await isStalled.promise
  // As a removal, a check and another process would have them, all at once.
  using locks = new DisposableStack()
  const folder = join(world.root, 'locks')
  let held = 0
  for (const name of readdirSync(folder)) {
    const lock = FileLock.tryAcquire(join(folder, name))
    if (lock === undefined) continue
    locks.use(lock)
    held += 1
  }
  assert.ok(held > 3, `${held} locks`)
  const writer = new DatabaseSync(join(world.root, 'metadata.db'))
  locks.defer(() => {
    writer.close()
  })
  writer.exec('BEGIN IMMEDIATE')
  for (const [command, found] of [
    ['ps', /"id": "web"/],
    ['images', /"names": \[\s*"[^"]*small:1"/],
  ] as const) {
    const { stdout } = await promisify(execFile)(
      programPath('loam'),
      [command, '--json', '--root', world.root, '--state', world.state],
      { env: { ...process.env, LOAM_DAEMON: 'require' } },
    )
    assert.match(stdout, found)
  }
  locks.dispose()
  stop.abort()
  await refused
  await daemon.destroy('web')
})
