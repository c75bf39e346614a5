// What happens when a process is killed, and when many want the same.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { buildImage, buildTar, RegistryServer } from '../../src/testing/index.ts'
import { World } from './world.ts'

const ROUNDS = Number(process.env['LOAM_CRASH_ROUNDS'] ?? 50)

function makeImage() {
  const layer = (seed: number) =>
    buildTar(
      Array.from({ length: 300 }, (_value, index) => ({
        name: `d${seed}/f${index}`,
        data: Buffer.alloc(2000 + index, seed + index),
      })),
    )
  return buildImage({ tars: [1, 2, 3].map(layer) })
}

/** Every layer in the store has the digest that it is named by. */
function verifyLayers(world: World): void {
  const layers = join(world.root, 'layers')
  if (!existsSync(layers)) return
  for (const diffId of readdirSync(layers)) {
    const digest = createHash('sha256')
      .update(readFileSync(join(layers, diffId, 'layer.tar')))
      .digest('hex')
    assert.equal(`sha256:${digest}`, diffId)
  }
}

describe('crashes', () => {
  test(`kill -9 at ${ROUNDS} random moments of pull and provision leaves nothing that recover does not put right`, async () => {
    await using registry = await RegistryServer.start()
    registry.addImage('app', '1', makeImage())
    const reference = `${registry.host}/app:1`
    let durationMs = 800
    let killed = 0
    for (let round = 0; round < ROUNDS; round += 1) {
      using world = new World()
      const start = performance.now()
      const child = spawn(process.execPath, world.args('provision', '--id', 'c', reference), {
        stdio: ['ignore', 'pipe', 'ignore'],
      })
      let path = ''
      child.stdout.on('data', (chunk: Buffer) => {
        path += chunk.toString()
      })
      const ended = new Promise<number | null>((resolve) => {
        child.once('close', resolve)
      })
      // The first round measures; later ones are killed within it.
      if (round > 0) await Promise.race([sleep(Math.random() * durationMs), ended])
      if (round > 0 && child.exitCode === null) {
        child.kill('SIGKILL')
        killed += 1
      }
      await ended
      if (round === 0) durationMs = (performance.now() - start) * 1.1
      const recovered = await world.loamAsync('--json', 'recover')
      assert.equal(recovered.status, 0, recovered.stderr)
      assert.deepEqual(JSON.parse(recovered.stdout).failed, [])
      verifyLayers(world)
      // What was acknowledged stands; of everything else nothing is left.
      if (path.endsWith('\n')) assert.equal(world.mounts().includes(path.trim()), true)
      const listed = JSON.parse((await world.loamAsync('--json', 'ps')).stdout)
      assert.equal(
        world.rootfsMounts().length,
        listed.flatMap((one: { rootfses: unknown[] }) => one.rootfses).length,
      )
      await world.loamAsync('destroy', 'c')
      assert.deepEqual(world.mounts(), [])
      assert.deepEqual(world.leftovers(), [])
      const again = await world.loamAsync('provision', '--id', 'again', reference)
      assert.equal(again.status, 0, again.stderr)
      assert.equal(readdirSync(again.stdout.trim()).length, 3)
      const second = JSON.parse((await world.loamAsync('--json', 'recover')).stdout)
      assert.deepEqual([second.undone, second.restored, second.swept], [[], [], []])
      await world.loamAsync('destroy', 'again')
    }
    assert.ok(killed > ROUNDS / 3, `only ${killed} processes were killed`)
  })

  test('ten processes that want the same image cause one transfer of each blob', async () => {
    using world = new World()
    await using registry = await RegistryServer.start()
    const image = makeImage()
    registry.addImage('app', '1', image)
    const results = await Promise.all(
      Array.from({ length: 10 }, async (_value, index) =>
        world.loamAsync('provision', '--id', `c${index}`, `${registry.host}/app:1`),
      ),
    )
    for (const { status, stdout, stderr } of results) {
      assert.equal(status, 0, stderr)
      assert.equal(readdirSync(stdout.trim()).length, 3)
    }
    for (const { digest } of [image.config, ...image.layers])
      assert.equal(registry.countBlob(digest), 1, digest)
    for (let index = 0; index < 10; index += 1) await world.loamAsync('destroy', `c${index}`)
    assert.deepEqual(world.mounts(), [])
    assert.deepEqual(world.leftovers(), [])
  })
})
