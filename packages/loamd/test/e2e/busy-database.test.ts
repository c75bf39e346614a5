// Another process writes to the database for long.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { test } from 'node:test'
import { connectLoam } from 'loamfs/client'
import { buildImage, buildTar, RegistryServer } from '../../../loam/src/testing/index.ts'
import { Client } from '../support/client.ts'
import { DaemonWorld } from '../support/world.ts'

/** Holds the lock of writers from its start until its input ends. */
const WRITER = `const database = new (require('node:sqlite').DatabaseSync)(process.argv[1])
database.exec('BEGIN IMMEDIATE')
process.stdout.write('holds')
process.stdin.resume().on('end', () => database.exec('ROLLBACK'))`

interface Writer extends AsyncDisposable {
  /** Ends its transaction. */
  readonly end: () => void
}

/** Starts another process that holds the lock of writers. */
async function startWriter(world: DaemonWorld): Promise<Writer> {
  const writer = spawn(process.execPath, ['-e', WRITER, join(world.root, 'metadata.db')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const ended = once(writer, 'close')
  await once(writer.stdout, 'data')
  return {
    end: () => {
      writer.stdin.end()
    },
    [Symbol.asyncDispose]: async () => {
      writer.kill()
      await ended
    },
  }
}

test('while another process writes to the database, snapshots wait for it and the daemon answers everybody else', async () => {
  await using world = new DaemonWorld()
  await world.startDaemon()
  await using writer = await startWriter(world)
  const snapshots = new Client(world.socket)
  let isPrepared = false
  const preparing = snapshots.prepare('a').then(() => {
    isPrepared = true
    return undefined
  })
  // Each is a connection of its own, and asks for the version.
  for (let round = 0; round < 20; round += 1) {
    await using daemon = await connectLoam({ socket: world.apiSocket })
    assert.equal(daemon.daemon.api, 'v1')
  }
  assert.equal(isPrepared, false)
  writer.end()
  await preparing
  snapshots.close()
})

test('while another process writes to the database, images and containers wait for it and the daemon answers everybody else', async () => {
  await using registry = await RegistryServer.start()
  const image = (data: string) => buildImage({ tars: [buildTar([{ name: 'hello', data }])] })
  for (const name of ['used', 'old', 'new']) registry.addImage(name, '1', image(name))
  const reference = (name: string) => `${registry.host}/${name}:1`
  await using world = new DaemonWorld()
  await world.startDaemon()
  await using daemon = await connectLoam({ socket: world.apiSocket })
  await daemon.pull(reference('old'))
  for (const id of ['web', 'app']) await daemon.provision(reference('used'), { id })
  await daemon.images.tag(reference('used'), 'example.com/first:1')
  await using writer = await startWriter(world)
  const done = new Set<string>()
  const begin = async (what: string, act: Promise<unknown>) => {
    await act
    done.add(what)
  }
  const waiting = [
    begin('pull', daemon.pull(reference('new'))),
    begin('tag', daemon.images.tag(reference('used'), 'example.com/second:1')),
    begin('untag', daemon.images.untag('example.com/first:1')),
    begin('remove', daemon.images.remove(reference('old'))),
    begin('provision', daemon.provision(reference('used'), { id: 'more' })),
    begin('destroy', daemon.destroy('web')),
    begin('prune', daemon.images.prune()),
  ]
  // Two seconds are more than any of them needs to arrive at the database.
  for (const end = performance.now() + 2000; performance.now() < end; ) {
    const names = (await daemon.images.list()).flatMap((listed) => listed.names)
    assert.ok(names.includes('example.com/first:1') && !names.includes('example.com/second:1'))
    assert.deepEqual([...done], [])
  }
  writer.end()
  await Promise.all(waiting)
  const names = (await daemon.images.list()).flatMap((listed) => listed.names)
  assert.deepEqual(names.toSorted(), [reference('new'), reference('used'), 'example.com/second:1'].toSorted())
  const ids = (await daemon.containers.list()).map(({ id }) => id)
  assert.deepEqual(ids.toSorted(), ['app', 'more'])
  for (const id of ids) await daemon.destroy(id)
})
