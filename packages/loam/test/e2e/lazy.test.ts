// Images of a real registry whose layers have lazy indexes: mounted before their data is here, and complete later.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { execFile, execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { findHolders } from '../../src/linux/index.ts'
import { buildImage, buildTar, type BuildEntry, listTree, RegistryServer } from '../../src/testing/index.ts'
import { LazyWorld } from '../support/lazy-world.ts'
import { recoverAlone } from '../support/recover.ts'
import { DebianRegistry, layoutOf, ok, World } from '../support/world.ts'

/** Pseudo-random text: it compresses by half, and each span of it differs. */
const textOf = (bytes: number) => Buffer.from(randomBytes(bytes / 2).toString('hex'))

const BASE: readonly BuildEntry[] = [
  { name: 'etc/', mode: 0o755 },
  { name: 'etc/config', data: 'base' },
  { name: 'etc/hidden', data: textOf(100_000) },
  { name: 'usr/', mode: 0o755 },
  { name: 'usr/large', mode: 0o755, data: textOf(6_000_000) },
  { name: 'usr/linked', type: 'hardlink', linkName: 'usr/large' },
  ...Array.from({ length: 200 }, (_, index) => ({ name: `usr/file${index}`, data: textOf(2 + index * 200) })),
]
const TOP: readonly BuildEntry[] = [
  { name: 'etc/.wh.hidden' },
  { name: 'etc/config', data: 'top' },
  { name: 'usr/sym', type: 'symlink', linkName: 'large' },
  { name: 'usr/other', data: textOf(3_000_000) },
]
const image = buildImage({ tars: [buildTar(BASE), buildTar(TOP)], compression: 'gzip' })

describe('an image with lazy indexes', { timeout: 600_000 }, () => {
  let registry: DebianRegistry
  let name: string
  let maker: World
  let indexes: string
  let expected: string[]

  before(async () => {
    registry = await DebianRegistry.start()
    name = `${registry.host}/app:1`
    maker = new World()
    {
      using pusher = new World()
      const layout = layoutOf(pusher, image)
      ok(pusher.loam('pull', layout))
      ok(pusher.loam('push', layout, name))
    }
    indexes = maker.path('indexes')
    mkdirSync(indexes, { mode: 0o700 })
    ok(maker.loam('pull', '--lazy-index', 'make', name))
    for (const [index, diffId] of image.diffIds.entries())
      copyFileSync(
        join(maker.root, 'layers', diffId, 'layer.lazy-index'),
        join(indexes, `${image.layers[index]?.digest}.lazy-index`),
      )
    expected = listTree(ok(maker.loam('provision', '--id', 'eager', name)).stdout.trim())
  })
  after(() => {
    maker[Symbol.dispose]()
    registry[Symbol.dispose]()
  })

  const lazily = ['--lazy', '--lazy-trust', 'own', '--lazy-index-dir'] as const

  test('shows the tree and the files of an eager pull, before their data is here, and completes its layers', async () => {
    using world = new LazyWorld()
    const provisioned = ok(world.loam('provision', ...lazily, indexes, '--id', 'lazy', name))
    assert.match(provisioned.stderr, /ready, its data comes when it is read/)
    assert.deepEqual(listTree(provisioned.stdout.trim()), expected)
    await world.untilComplete()
    for (const diffId of image.diffIds) {
      const { size, blocks } = statSync(join(world.root, 'layers', diffId, 'layer.tar'))
      assert.ok(blocks * 512 >= size)
    }
    const pulled = ok(world.loam('pull', name))
    assert.doesNotMatch(pulled.stderr, /fetched/)
    ok(world.loam('fsck'))
    ok(world.loam('destroy', 'lazy'))
    assert.deepEqual(world.rootfsMounts(), [])
    assert.deepEqual(world.leftovers(), [])
  })
})

/** A registry whose blobs of layers are sent while its gate is open. */
class GatedRegistry implements AsyncDisposable {
  readonly server: RegistryServer
  readonly name: string
  #gate: 'open' | 'closed' | 'silent' = 'open'
  /** What was requested while it was silent. */
  readonly #waiting: (() => void)[] = []

  private constructor(server: RegistryServer) {
    this.server = server
    this.name = `${server.host}/app:1`
    server.addImage('app', '1', image)
    server.intercept = (request, response) => {
      const isLayer = image.layers.some(({ digest }) => request.url?.endsWith(`/blobs/${digest}`) === true)
      if (this.#gate === 'open' || !isLayer) return false
      if (this.#gate === 'closed') response.writeHead(503).end()
      else this.#waiting.push(() => server.answer(request, response))
      return true
    }
  }

  /** From now on it refuses, or does not answer. Those who need all of a layer give it up after several refusals, and wait for an answer. */
  close(gate: 'closed' | 'silent' = 'closed'): void {
    this.#gate = gate
  }

  open(): void {
    this.#gate = 'open'
    for (const answer of this.#waiting.splice(0)) answer()
  }

  static async start(): Promise<GatedRegistry> {
    return new GatedRegistry(await RegistryServer.start())
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]()
  }
}

describe('partial layers', { timeout: 600_000 }, () => {
  /** Provisions an image lazily from a registry that sends no layer. */
  const provision = async (world: World, registry: GatedRegistry): Promise<string> => {
    const indexes = world.path('indexes')
    ok(await world.loamAsync('index', '--output', indexes, registry.name))
    registry.close()
    const args = ['--lazy', '--lazy-trust', 'own', '--lazy-index-dir', indexes, '--id', 'lazy']
    return ok(await world.loamAsync('provision', ...args, registry.name)).stdout.trim()
  }
  const read = async (path: string) => {
    const { stdout } = await promisify(execFile)('cat', [path])
    return stdout
  }

  test('a file of an image whose data is not here is read when its registry sends it, and all wait who need more', async () => {
    await using registry = await GatedRegistry.start()
    using world = new LazyWorld()
    const rootfs = await provision(world, registry)
    assert.equal((await world.partialLater()).length, 2)
    const inspected = JSON.parse(ok(await world.loamAsync('--json', 'inspect', registry.name)).stdout)
    assert.deepEqual(
      inspected.lazy.layers.map((layer: { isComplete: boolean; trustedBy: string }) => [
        layer.isComplete,
        layer.trustedBy,
      ]),
      [
        [false, 'own'],
        [false, 'own'],
      ],
    )
    for (const words of [['images'], ['ps'], ['layers', registry.name]]) {
      const { stdout } = ok(await world.loamAsync(...words))
      assert.match(stdout, /DATA[^]* missing/, words.join(' '))
    }
    const content = read(join(rootfs, 'etc/config'))
    const isStarved = async () => / starved/.test(ok(await world.loamAsync('ps')).stdout)
    while (!(await isStarved())) await sleep(50)
    assert.match(ok(await world.loamAsync('df')).stderr, /the data of layer \w+ does not come: .*503/)
    registry.close('silent')
    const exported = world.loamAsync('export', '--format', 'tar', registry.name, world.path('all.tar'))
    const copied = world.loamAsync('provision', '--backend', 'copy', '--id', 'copy', registry.name)
    let isDescribed = false
    const described = world.loamAsync('disks', 'lazy').finally(() => {
      isDescribed = true
    })
    await sleep(300)
    assert.equal(isDescribed, false)
    registry.open()
    assert.equal(await content, 'top')
    ok(await exported)
    ok(await described)
    const copy = ok(await copied).stdout.trim()
    assert.deepEqual(await world.partialLater(), [])
    assert.deepEqual(listTree(copy), listTree(rootfs))
    assert.doesNotMatch(ok(await world.loamAsync('images')).stdout, /DATA/)
  })

  test('after a reboot the handler serves the layers before they are mounted again, and their spans are verified', async () => {
    await using registry = await GatedRegistry.start()
    using world = new LazyWorld()
    const rootfs = await provision(world, registry)
    for (const path of world.mounts().toReversed()) execFileSync('umount', ['-l', path])
    world.endHandlers()
    {
      using database = new DatabaseSync(join(world.root, 'metadata.db'))
      database.exec(`UPDATE artifacts SET boot_id = 'before'; UPDATE rootfses SET boot_id = 'before'`)
    }
    const { restored, failed } = JSON.parse(ok(await world.loamAsync('--json', 'recover')).stdout)
    assert.deepEqual([restored, failed], [[rootfs], []])
    const content = read(join(rootfs, 'etc/config'))
    registry.open()
    assert.equal(await content, 'top')
  })

  test('what may have shown wrong data, since all that served it was killed, is unmounted and named by a recovery, and shown again', async () => {
    await using registry = await GatedRegistry.start()
    using world = new LazyWorld()
    const rootfs = await provision(world, registry)
    const stacks = world.mounts().filter((path) => path !== rootfs)
    world.endHandlers()
    const { poisoned, restored, failed } = await recoverAlone(world)
    assert.deepEqual([poisoned.toSorted(), restored, failed], [[rootfs, ...stacks].toSorted(), [rootfs], []])
    assert.deepEqual((await recoverAlone(world)).poisoned, [])
    const content = read(join(rootfs, 'etc/config'))
    registry.open()
    assert.equal(await content, 'top')
  })

  test('what may have shown wrong data is unmounted also if the lazy index is damaged meanwhile', async () => {
    await using registry = await GatedRegistry.start()
    using world = new LazyWorld()
    const rootfs = await provision(world, registry)
    for (const diffId of image.diffIds) {
      const path = join(world.root, 'layers', diffId, 'layer.lazy-index')
      const bytes = readFileSync(path)
      bytes.writeUInt8(bytes.readUInt8(100) ^ 1, 100)
      writeFileSync(path, bytes)
    }
    world.endHandlers()
    registry.open()
    const { stdout } = await world.loamAsync('--json', 'recover')
    const { poisoned, failed } = JSON.parse(stdout) as { poisoned: string[]; failed: { what: string }[] }
    assert.ok(poisoned.includes(rootfs), stdout)
    assert.deepEqual(
      failed.map(({ what }) => what),
      [rootfs],
    )
    assert.ok(!world.mounts().includes(rootfs))
    ok(await world.loamAsync('destroy', 'lazy'))
    const again = ok(await world.loamAsync('provision', registry.name)).stdout.trim()
    assert.equal(await read(join(again, 'etc/config')), 'top')
  })

  test('the data of layers above disk_budget is evicted once nothing shows them, and comes again when it is read', async () => {
    await using registry = await GatedRegistry.start()
    using world = new LazyWorld()
    const rootfs = await provision(world, registry)
    registry.open()
    while ((await world.partialLater()).length > 0) await sleep(50)
    const expected = listTree(rootfs)
    const collect = async (...args: string[]) =>
      JSON.parse(ok(await world.loamAsync('--json', 'gc', '--disk-budget', '1000', ...args)).stdout)
    const shown = await collect()
    assert.deepEqual([shown.evicted, shown.images], [[], []], 'a container shows them')
    ok(await world.loamAsync('commit', 'lazy', 'own:1'))
    ok(await world.loamAsync('destroy', 'lazy'))
    assert.deepEqual((await collect('--dry-run')).evicted, [], 'an image that is nowhere else needs them')
    ok(await world.loamAsync('rmi', 'own:1'))
    assert.equal((await collect('--dry-run')).evicted.length, 2)
    assert.deepEqual(await world.partialLater(), [])
    const indexPath = join(world.root, 'layers', image.diffIds[0] ?? '', 'layer.lazy-index')
    const index = readFileSync(indexPath)
    writeFileSync(indexPath, Buffer.concat([index, Buffer.alloc(1)]))
    const expectedOther = await collect('--dry-run')
    const other = await collect()
    assert.deepEqual(other.evicted, expectedOther.evicted, 'a dry run lists what is evicted')
    assert.equal(
      other.evicted.length,
      1,
      'the index beside the first layer is not the one that it was pulled by',
    )
    writeFileSync(indexPath, index)
    const { evicted, images, freedBytes } = await collect()
    assert.deepEqual([evicted.length, images], [1, []])
    const tars = image.diffIds.map((diffId) => statSync(join(world.root, 'layers', diffId, 'layer.tar')))
    assert.equal(
      other.freedBytes + freedBytes,
      tars.reduce((sum, { size }) => sum + size, 0),
    )
    assert.deepEqual(
      tars.map(({ blocks }) => blocks),
      [0, 0],
    )
    assert.equal((await world.loamAsync('fsck')).status, 0)
    registry.close()
    const args = ['--lazy', '--lazy-trust', 'own', '--id', 'again']
    const again = ok(await world.loamAsync('provision', ...args, registry.name)).stdout.trim()
    assert.equal((await world.partialLater()).length, 2)
    const content = read(join(again, 'etc/config'))
    registry.open()
    assert.equal(await content, 'top')
    // This process is the registry, and would wait for itself.
    while ((await world.partialLater()).length > 0) await sleep(50)
    assert.deepEqual(listTree(again), expected)
  })

  test('a partial layer that nothing uses is removed while its registry is gone, and nothing of it stays open', async () => {
    await using registry = await GatedRegistry.start()
    using world = new LazyWorld()
    await provision(world, registry)
    ok(await world.loamAsync('destroy', 'lazy'))
    ok(await world.loamAsync('prune', '--all'))
    assert.deepEqual(readdirSync(join(world.root, 'layers')), [])
    while (findHolders(join(world.state, 'lazy')).length > 0) await sleep(50)
  })
})
