// The received part of a layer is used: by other callers in this process, and by the next process after a signal or a kill.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openLoam } from '../../src/index.ts'
import { buildImage, buildTar, RegistryServer } from '../../src/testing/index.ts'
import { someOf } from '../support/rounds.ts'
import { gather, ok, World } from '../support/world.ts'

const SIZE = 16 << 20
const image = buildImage({ tars: [buildTar([{ name: 'f', data: randomBytes(SIZE) }])] })
const [layer] = image.layers
const digest = layer?.digest ?? ''
const blob = layer?.bytes ?? Buffer.alloc(0)

/** A registry that sends its layer slowly, and counts. */
class SlowRegistry implements AsyncDisposable {
  readonly server: RegistryServer
  sentBytes = 0
  /** The byte that each request for the layer begins at. */
  readonly starts: number[] = []
  bytesPerTick = 64 << 10
  hasRanges = true

  constructor(server: RegistryServer) {
    this.server = server
    server.addImage('app', '1', image)
    server.intercept = (request, response) => {
      if (request.url?.endsWith(`/blobs/${digest}`) !== true) return false
      const asked = this.hasRanges ? /^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] : undefined
      const start = asked === undefined ? 0 : Number(asked)
      this.starts.push(start)
      const range =
        asked === undefined ? {} : { 'content-range': `bytes ${start}-${blob.length - 1}/${blob.length}` }
      response.writeHead(asked === undefined ? 200 : 206, { 'content-length': blob.length - start, ...range })
      void this.#send(response, start)
      return true
    }
  }

  async #send(response: ServerResponse, start: number): Promise<void> {
    for (let at = start; at < blob.length && !response.destroyed; ) {
      const chunk = blob.subarray(at, at + this.bytesPerTick)
      at += chunk.length
      this.sentBytes += chunk.length
      const more = Promise.withResolvers<void>()
      response.write(chunk, () => {
        more.resolve()
      })
      await more.promise
      await sleep(5)
    }
    response.end()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]()
  }

  static async start(): Promise<SlowRegistry> {
    return new SlowRegistry(await RegistryServer.start())
  }
}

function pull(world: World, registry: SlowRegistry, ...flags: readonly string[]) {
  const child = spawn(process.execPath, world.args(...flags, 'pull', `${registry.server.host}/app:1`))
  const stderr = gather(child.stderr)
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  return { child, stderr, ended }
}

async function pullWhole(world: World, registry: SlowRegistry): Promise<void> {
  registry.bytesPerTick = 4 << 20
  ok(await world.loamAsync('pull', `${registry.server.host}/app:1`))
  assert.deepEqual([world.leftovers(), partials(world)], [[], []])
}

const partialFolder = (world: World) => join(world.root, 'partial')
const keptBytes = (world: World) => {
  const [name] = partials(world)
  if (name === undefined) return 0
  return statSync(join(partialFolder(world), name), { throwIfNoEntry: false })?.size ?? 0
}
const partials = (world: World) => (existsSync(partialFolder(world)) ? readdirSync(partialFolder(world)) : [])

describe('a partial layer', () => {
  test('a partial layer is resumed after kills at any byte, and each byte is transferred once', async () => {
    using world = new World()
    await using registry = await SlowRegistry.start()
    const kept: number[] = []
    for (const bytes of someOf([3 << 20, 6 << 20, 10 << 20], 2)) {
      const { child, ended } = pull(world, registry)
      // What is sent may still be in the buffers of the kernel.
      while (keptBytes(world) < bytes && child.exitCode === null) await sleep(5)
      child.kill('SIGKILL')
      await ended
      kept.push(keptBytes(world))
    }
    assert.equal(world.loam('recover').status, 0)
    await pullWhole(world, registry)
    // Received bytes are kept exactly, and none of them is requested again.
    assert.ok((kept.at(-1) ?? 0) > 1 << 20, kept.join())
    assert.deepEqual(registry.starts, [0, ...kept].slice(-registry.starts.length))
    assert.equal(world.loam('fsck').status, 0)
  })

  for (const name of someOf(['SIGINT', 'SIGTERM'] as const, 1)) {
    test(`a partial layer is resumed after ${name}`, async () => {
      using world = new World()
      await using registry = await SlowRegistry.start()
      const { child, ended } = pull(world, registry)
      while (keptBytes(world) < 4 << 20 && child.exitCode === null) await sleep(5)
      child.kill(name)
      assert.equal(await ended, 130)
      const kept = keptBytes(world)
      await pullWhole(world, registry)
      assert.ok(kept > 1 << 20)
      assert.deepEqual(registry.starts, [0, kept])
    })
  }

  test('a partial layer is taken over by a process that waited for the one that was killed', async () => {
    using world = new World()
    await using registry = await SlowRegistry.start()
    const first = pull(world, registry)
    while (keptBytes(world) < 4 << 20) await sleep(5)
    registry.bytesPerTick = 4 << 10
    const second = pull(world, registry)
    while (!second.stderr().includes('waiting')) await sleep(10)
    first.child.kill('SIGKILL')
    await first.ended
    registry.bytesPerTick = 4 << 20
    assert.equal(await second.ended, 0, second.stderr())
    assert.equal(registry.starts.length, 2)
    assert.ok((registry.starts[1] ?? 0) > 1 << 20, registry.starts.join())
  })

  test('a partial layer is fetched from its start if a server does not support ranges, and is complete', async () => {
    using world = new World()
    await using registry = await SlowRegistry.start()
    registry.hasRanges = false
    const { child, ended } = pull(world, registry)
    while (registry.sentBytes < 6 << 20) await sleep(5)
    child.kill('SIGINT')
    await ended
    await pullWhole(world, registry)
    assert.equal(world.loam('fsck').status, 0)
  })

  test('a partial layer with wrong bytes, or too many, is dropped and fetched once more', async () => {
    const spoils = [
      (path: string) => {
        writeFileSync(path, Buffer.alloc(2 << 20))
      },
      (path: string) => {
        truncateSync(path, blob.length + 5)
      },
      (path: string) => {
        writeFileSync(path, randomBytes(blob.length))
      },
    ]
    for (const spoil of someOf(spoils, 2)) {
      using world = new World()
      await using registry = await SlowRegistry.start()
      const { child, ended } = pull(world, registry)
      while (registry.sentBytes < 6 << 20) await sleep(5)
      child.kill('SIGINT')
      await ended
      spoil(join(partialFolder(world), partials(world)[0] ?? ''))
      await pullWhole(world, registry)
      assert.equal(world.loam('fsck').status, 0)
    }
  })

  test('a partial layer is removed by prune, unless it is in use', async () => {
    using world = new World()
    await using registry = await SlowRegistry.start()
    const { child, ended } = pull(world, registry)
    while (registry.sentBytes < 5 << 20) await sleep(5)
    assert.equal(world.loam('prune').status, 0)
    assert.equal(partials(world).length, 1)
    child.kill('SIGINT')
    await ended
    assert.ok(statSync(join(partialFolder(world), partials(world)[0] ?? '')).size > 1 << 20)
    assert.equal(world.loam('prune').status, 0)
    assert.deepEqual(partials(world), [])
  })
})

describe('a shared transfer', () => {
  test('a shared transfer continues when the caller who began it leaves, at the first byte or later', async () => {
    for (const bytes of [1, 4 << 20]) {
      using world = new World()
      await using registry = await SlowRegistry.start()
      const flags = { root: world.root, state: join(world.folder, 'state') }
      await using loam = await openLoam({ file: null, flags, env: process.env })
      const name = `${registry.server.host}/app:1`
      const leaver = new AbortController()
      const left = loam.pull(name, { signal: leaver.signal }).then(
        () => 'pulled',
        (error: unknown) => (error as { code: string }).code,
      )
      while (registry.sentBytes < bytes) await sleep(5)
      const seen: string[][] = [[], []]
      const others = seen.map(async (states) =>
        loam.pull(name, {
          onEvent: (event) => {
            if (event.kind === 'layer') states.push(event.progress.state)
          },
        }),
      )
      while (!seen.every((states) => states.includes('fetching'))) await sleep(10)
      leaver.abort()
      assert.equal(await left, 'CANCELED')
      await Promise.all(others)
      assert.equal(registry.starts.length, 1)
      assert.deepEqual(
        seen.map((states) => states.at(-1)),
        ['done', 'done'],
      )
    }
  })

  test('a shared transfer ends when the last caller leaves', async () => {
    using world = new World()
    await using registry = await SlowRegistry.start()
    const flags = { root: world.root, state: join(world.folder, 'state') }
    await using loam = await openLoam({ file: null, flags, env: process.env })
    const leavers = [1, 2, 3].map(() => new AbortController())
    const pulls = leavers.map(async ({ signal }) => loam.pull(`${registry.server.host}/app:1`, { signal }))
    const settled = Promise.allSettled(pulls)
    while (registry.sentBytes < 2 << 20) await sleep(5)
    for (const leaver of leavers) {
      leaver.abort()
      await sleep(50)
    }
    assert.deepEqual(
      (await settled).map(({ status }) => status),
      ['rejected', 'rejected', 'rejected'],
    )
    const sent = registry.sentBytes
    await sleep(300)
    assert.ok(registry.sentBytes <= sent + (1 << 20))
  })
})
