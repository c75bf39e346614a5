// Another process writes to the database for long.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { test } from 'node:test'
import { connectLoam } from 'loamfs/client'
import { Client } from '../support/client.ts'
import { DaemonWorld } from '../support/world.ts'

/** Holds the lock of writers from its start until its input ends. */
const WRITER = `const database = new (require('node:sqlite').DatabaseSync)(process.argv[1])
database.exec('BEGIN IMMEDIATE')
process.stdout.write('holds')
process.stdin.resume().on('end', () => database.exec('ROLLBACK'))`

test('while another process writes to the database, snapshots wait for it and the daemon answers everybody else', async () => {
  await using world = new DaemonWorld()
  await world.startDaemon()
  const writer = spawn(process.execPath, ['-e', WRITER, join(world.root, 'metadata.db')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  try {
    await once(writer.stdout, 'data')
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
    writer.stdin.end()
    await preparing
    snapshots.close()
  } finally {
    writer.kill()
  }
})
