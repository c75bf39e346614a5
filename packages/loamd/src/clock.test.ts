// The clock of the machine jumps while the daemon runs. Only `Date` is replaced.
import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import { connectLoam } from 'loamfs/client'
import { buildImage, buildTar, RegistryServer } from 'loamfs/testing'
import { HttpWorld } from '../test/support/http-world.ts'

const DAY_MS = 86_400_000

test('when the clock jumps by a day, forward or back, calls go on, their durations are real ones, and no image is lost', async () => {
  await using registry = await RegistryServer.start()
  for (const name of ['a', 'b', 'c'])
    registry.addImage(name, '1', buildImage({ tars: [buildTar([{ name: 'hello', data: name }])] }))
  const reference = (name: string) => `${registry.host}/${name}:1`
  await using world = await HttpWorld.start()
  await using loam = await connectLoam({ socket: world.socket })
  const nowMs = Date.now()
  mock.timers.enable({ apis: ['Date'], now: nowMs })
  try {
    for (const [name, jumpMs] of [
      ['a', 0],
      ['b', DAY_MS],
      ['c', -DAY_MS],
    ] as const) {
      const pulling = loam.pull(reference(name))
      mock.timers.setTime(nowMs + jumpMs)
      await pulling
      const made = await loam.provision(reference('a'), { id: name, backend: 'copy' })
      assert.equal((await loam.containers.find(name))?.createdAtMs, nowMs + jumpMs)
      await loam.images.prune()
      assert.deepEqual((await loam.recover()).kept.includes(made.rootfsPath), true)
      assert.deepEqual((await loam.store.fsck({ repair: false })).problems, [])
    }
    assert.equal((await loam.images.list()).length, 3)
    for (const { id } of await loam.containers.list()) assert.equal(await loam.destroy(id), true)
  } finally {
    mock.timers.reset()
  }
  const durations = world.lines.flatMap((line) => {
    const { durationMs } = JSON.parse(line) as { readonly durationMs?: number }
    return durationMs === undefined ? [] : [durationMs]
  })
  assert.ok(durations.length > 10)
  assert.deepEqual(
    durations.filter((each) => each < 0 || each > DAY_MS / 24),
    [],
  )
})
