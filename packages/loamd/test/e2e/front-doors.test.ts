// One suite over both front doors: of the library, and of a daemon.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openLoam } from 'loamfs'
import { connectLoam } from 'loamfs/client'
import { buildImage, buildTar, frontDoorConformance, writeOciLayout } from 'loamfs/testing'
import { busyboxEntries } from '../../../loam/test/support/world.ts'
import { HttpWorld } from '../support/http-world.ts'

function shellImageIn(folder: string): string {
  writeOciLayout(join(folder, 'shell'), { x: buildImage({ tars: [buildTar(busyboxEntries(['sh']))] }) })
  return `oci:${join(folder, 'shell')}:x`
}

frontDoorConformance('openLoam', async () => {
  await using made = new AsyncDisposableStack()
  const folder = mkdtempSync(join(tmpdir(), 'loam-door-'))
  made.defer(() => {
    rmSync(folder, { recursive: true })
  })
  const flags = { root: join(folder, 'root'), state: join(folder, 'state') }
  const loam = made.use(await openLoam({ flags, env: { HOME: folder, PATH: process.env['PATH'] } }))
  const held = made.move()
  return {
    loam,
    folder,
    shellImage: shellImageIn(folder),
    [Symbol.asyncDispose]: async () => held.disposeAsync(),
  }
})

frontDoorConformance('connectLoam', async () => {
  await using made = new AsyncDisposableStack()
  const world = made.use(await HttpWorld.start())
  const loam = made.use(await connectLoam({ socket: world.socket }))
  const held = made.move()
  return {
    loam,
    folder: world.folder,
    shellImage: shellImageIn(world.folder),
    [Symbol.asyncDispose]: async () => held.disposeAsync(),
  }
})
