// One life of a store on the simulated machine: a few concurrent processes, again and again, with kills, failing calls, power cuts and a registry
// that fails; after each round the store is checked.
import { Activity } from '../../src/activity/index.ts'
import { storedReference } from '../../src/image/index.ts'
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import {
  BlobStore,
  IngestArea,
  lockPath,
  openStoreRoot,
  StoreReserve,
  RetainedBlobs,
} from '../../src/content/index.ts'
import { readLayerImage } from '../../src/erofs/index.ts'
import { isLoamError } from '../../src/errors/index.ts'
import { LayerStore } from '../../src/layers/index.ts'
import { TreeCache } from '../../src/transform/tree-cache.ts'
import { createContentsReader, runTask } from '../../src/transform/tasks.ts'
import type { LayerWorkers } from '../../src/layers/worker-pool.ts'
import { LimitedFolders, StackMounts } from '../../src/backends/index.ts'
import { diskUsage, syncFileSystem } from '../../src/linux/index.ts'
import { MetadataStore } from '../../src/metadata/index.ts'
import { Snapshotter } from '../../src/snapshotter/index.ts'
import { dockerNaming, ImageStore, type StoredImage } from '../../src/stores/index.ts'
import { buildImage, buildTar } from '../../src/testing/index.ts'
import { DEFAULT_IMAGE_LIMITS, DEFAULT_LAYER_LIMITS } from '../../src/tree/index.ts'
import { Random } from '../faults/random.ts'
import { type Fault, type Machine, Process } from './machine.ts'
import { Network } from './network.ts'
import { Snapshots } from './snapshots.ts'

const TARS = Array.from({ length: 5 }, (_value, index) =>
  buildTar([
    { name: `d${index}/` },
    { name: `d${index}/f`, data: Buffer.alloc(700 * (index + 1), `layer ${index} `) },
    { name: 'common', data: `${index}` },
  ]),
)
const tarOf = (...indexes: readonly number[]) => indexes.map((index) => TARS[index] ?? Buffer.alloc(0))
/** Images that share layers; one has the same layer twice. */
const IMAGES = [[0, 1], [0, 2], [3], [0, 1, 4], [3, 3]].map((indexes) =>
  buildImage({ tars: tarOf(...indexes), compression: 'none', config: { Cmd: [indexes.join()] } }),
)
const TAR_OF_DIFF_ID = new Map(
  IMAGES.flatMap(({ diffIds }, image) =>
    diffIds.map((diffId, at) => [
      diffId as string,
      tarOf(...([[0, 1], [0, 2], [3], [0, 1, 4], [3, 3]][image] ?? []))[at],
    ]),
  ),
)
const NAMES = ['registry.test/a:1', 'registry.test/b:1', 'registry.test/c:1']
const HOST = { os: 'linux', architecture: 'amd64' }

/** An open store of a process. */
class OpenStore {
  readonly images: ImageStore
  readonly metadata: MetadataStore
  readonly layers: LayerStore
  readonly snapshotter: Snapshotter
  #area: IngestArea | undefined

  private constructor(root: string, metadata: MetadataStore, bootId: string) {
    const paths = openStoreRoot(root)
    this.metadata = metadata
    const ingest = () => (this.#area ??= new IngestArea(paths))
    const blobs = new BlobStore(paths, DEFAULT_IMAGE_LIMITS)
    const limits = DEFAULT_LAYER_LIMITS
    const retained = new RetainedBlobs(paths, { mode: 'none', maxAgeMs: 0, maxBytes: 0 })
    const workers = new InlineWorkers()
    this.layers = new LayerStore({
      paths,
      metadata,
      workers,
      writers: workers,
      ingest,
      limits,
      bootId,
      retained,
    })
    this.images = new ImageStore({
      paths,
      metadata,
      blobs,
      layers: this.layers,
      retained,
      ingest,
      hostPlatform: HOST,
      naming: dockerNaming,
      limits: DEFAULT_IMAGE_LIMITS,
      enforcer: undefined,
    })
    const { layers } = this
    this.snapshotter = new Snapshotter({
      activity: new Activity(),
      paths,
      metadata,
      layers,
      reserve: new StoreReserve(paths),
      ingest,
      stacks: new StackMounts({ paths, metadata, layers, stateFolder: join(root, '..', 'state') }),
      limited: new LimitedFolders({ paths, searchPath: '', reserves: false }),
      bootId,
      measure: async (folder) => diskUsage(folder),
      canShow: () => true,
      sync: async () => {
        syncFileSystem(root)
      },
    })
  }

  static async open(root: string, bootId: string, process: Process): Promise<OpenStore> {
    const paths = openStoreRoot(root)
    const metadata = await MetadataStore.open(paths.database, {
      lockFile: lockPath(paths, 'metadata', 'open'),
    })
    const store = new OpenStore(root, metadata, bootId)
    process.atDeath(() => {
      metadata[Symbol.dispose]()
    })
    return store
  }

  async close(process: Process): Promise<void> {
    await this.snapshotter.close()
    await this.#area?.[Symbol.asyncDispose]()
    this.metadata[Symbol.dispose]()
    assert.equal(process.fds.size, 0, 'descriptors are left open')
  }
}

/** Runs the tasks of threads in the calling thread. */
class InlineWorkers implements LayerWorkers {
  readonly size = 1
  readonly warmUp = (): void => undefined

  readonly run: LayerWorkers['run'] = async (task, options = {}) => {
    const signal = options.signal ?? new AbortController().signal
    const source = options.source?.(signal) ?? noBlob()
    return (await runTask(task, source, {
      canceled: new Int32Array(1),
      trees: new TreeCache(),
      contents: createContentsReader(),
    })) as never
  }
}

async function* noBlob(): AsyncGenerator<Buffer> {
  // Tasks without a blob do not ask.
}

/** Expectations, as far as they are known from outside. */
interface Model {
  /** Names whose images were acknowledged, what they may refer to by now, and whether the pull waited for the disk. */
  readonly owed: Map<string, { readonly digests: ReadonlySet<string>; readonly isDurable: boolean }>
  /** Digests that a name has referred to. */
  readonly history: Map<string, Set<string>>
}

/** Lives one life. @throws AssertionError for a violation */
export async function simulate(machine: Machine, seed: number, parent: string): Promise<void> {
  const random = new Random(seed)
  const folder = join(parent, String(seed))
  mkdirSync(folder, { recursive: true })
  machine.reset(random, folder)
  const life = new Life(machine, random, join(folder, 'store'))
  try {
    const rounds = 2 + random.below(5)
    for (let round = 0; round < rounds; round += 1) await life.round()
    await life.end()
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

class Life {
  readonly #machine: Machine
  readonly #random: Random
  readonly #root: string
  readonly #network: Network
  readonly #snapshots: Snapshots
  readonly #model: Model = { owed: new Map(), history: new Map() }
  #boot = 0
  /** Images that a power cut may have removed for good. */
  readonly #lost = new Set<string>()
  /** Number of requests for a name by processes of this round. */
  readonly #attempts = new Map<string, number>()

  constructor(machine: Machine, random: Random, root: string) {
    this.#machine = machine
    this.#random = random
    this.#root = root
    this.#network = new Network(machine, IMAGES)
    this.#snapshots = new Snapshots(machine, random, root)
    for (const name of NAMES) this.#tag(name)
  }

  #tag(name: string): void {
    const image = this.#random.pick(IMAGES)
    this.#network.tags.set(name, image)
    const known = this.#model.history.get(name) ?? new Set()
    this.#model.history.set(name, known.add(image.manifest.digest))
  }

  /** Runs some concurrent processes, then perhaps a power cut, then checks everything. */
  async round(): Promise<void> {
    const random = this.#random
    if (random.next() < 0.3) this.#tag(random.pick(NAMES))
    this.#machine.nowMs += random.pick([0, 1000, 90_000, 86_400_000, -3_600_000])
    this.#network.trouble = random.pick([0, 0, 0.1, 0.3])
    this.#attempts.clear()
    const count = 1 + random.below(3)
    const verbs = Array.from({ length: count }, () =>
      random.weighted({ get: 45, snapshot: 30, prune: 10, remove: 5, recover: 10 }),
    )
    // An image that is removed at the same time is not expected, whichever call was first.
    if (verbs.some((verb) => verb === 'prune' || verb === 'remove')) this.#model.owed.clear()
    const mayOwe = !verbs.some((verb) => verb === 'prune' || verb === 'remove')
    await Promise.all(verbs.map(async (verb) => this.#live(verb, mayOwe)))
    const isPowerCut = random.next() < 0.3
    if (isPowerCut) {
      this.#machine.cutPower()
      this.#boot += 1
      for (const [name, { isDurable }] of this.#model.owed) if (!isDurable) this.#model.owed.delete(name)
    }
    await this.#check(isPowerCut)
  }

  /** One process, from its start to its end. */
  async #live(verb: string, mayOwe: boolean): Promise<void> {
    const process = new Process(this.#pickFault())
    await this.#machine.run(process, async () => {
      try {
        const store = await OpenStore.open(this.#root, `boot-${this.#boot}`, process)
        await this.#act(store, verb, mayOwe)
        await store.close(process)
      } catch (error) {
        if (process.isDead) return
        const isTold = isLoamError(error) && error.message !== ''
        // A failing call may be reported by its own error if nothing else is known about it.
        const isCall = error instanceof Error && /simulated/.test(error.message)
        if (!isTold && !isCall) throw error
      }
    })
    // The kernel closes everything that it has forgotten to close.
    await this.#machine.run(process, async () => {
      if (!process.isDead) process.kill()
    })
  }

  #pickFault(): Fault | undefined {
    const random = this.#random
    const way = random.next()
    if (way < 0.45) return undefined
    const at = 1 + random.below(random.next() < 0.5 ? 25 : 90)
    if (way < 0.75) return { at, how: 'kill', isLasting: true }
    return { at, how: random.pick(['EIO', 'ENOSPC']), isLasting: random.next() < 0.5 }
  }

  async #act(store: OpenStore, verb: string, mayOwe: boolean): Promise<void> {
    const random = this.#random
    const name = random.pick(NAMES)
    switch (verb) {
      case 'get': {
        const [cached, isDurable] = [random.next() < 0.5, random.next() < 0.5]
        const options = { cached, sync: isDurable, unpack: false }
        this.#attempt(name, cached, isDurable)
        using image = await store.images.get(this.#network.source(name), options)
        this.#checkImage(store, name, image)
        await this.#machine.turn()
        // No process removes it while it is leased.
        this.#checkImage(store, name, image)
        this.#lost.delete(image.record.digest)
        if (mayOwe) this.#owe(name, image.record.digest, isDurable)
        break
      }
      case 'snapshot':
        for (let count = 1 + random.below(3); count > 0; count -= 1) await this.#snapshots.act(store)
        break
      case 'prune':
        await store.images.prune({
          named: true,
          local: true,
          dryRun: random.next() < 0.2,
          excluded: random.next() < 0.5 ? [name] : [],
        })
        await store.layers.settle()
        break
      case 'remove':
        await store.metadata.images.removeName(storedReference(name))
        break
      default:
        await store.images.recover()
    }
  }

  /** A process that asks alone in its round decides; concurrent ones may come in any order. */
  #owe(name: string, digest: string, isDurable: boolean): void {
    const before = this.#model.owed.get(name)
    const isAlone = this.#attempts.get(name) === 1
    this.#model.owed.set(name, {
      digests: new Set(isAlone ? [digest] : [...(before?.digests ?? []), digest]),
      isDurable: isDurable && (isAlone || before?.isDurable === true),
    })
  }

  /** Whatever happens, the name may refer to another image from now on; without waiting for the disk, to one that is not on it. */
  #attempt(name: string, cached: boolean, isDurable: boolean): void {
    this.#attempts.set(name, (this.#attempts.get(name) ?? 0) + 1)
    const before = this.#model.owed.get(name)
    if (cached || before === undefined) return
    const current = this.#network.tags.get(name)?.manifest.digest ?? ''
    const digests = new Set([...before.digests, current])
    this.#model.owed.set(name, { digests, isDurable: before.isDurable && isDurable })
  }

  /** The image is one that its name has referred to, and is complete. */
  #checkImage(store: OpenStore, name: string, { record }: StoredImage): void {
    assert.ok(
      this.#model.history.get(name)?.has(record.digest),
      `${name} is ${record.digest}, which it never was`,
    )
    for (const { diffId } of record.layers) {
      const tar = readFileSync(store.layers.tarPath(diffId))
      assert.ok(TAR_OF_DIFF_ID.get(diffId)?.equals(tar), `layer ${diffId} of ${name} is not what it was`)
      const index = store.layers.artifacts.path(diffId, 'meta')
      const record_ = store.metadata.layers.findArtifact(diffId, 'meta')
      if (record_ === undefined || !existsSync(index) || record_.bootId !== `boot-${this.#boot}`) continue
      const bytes = readFileSync(index)
      readLayerImage((position, length) => bytes.subarray(position, position + length), bytes.length)
    }
  }

  /** A process without faults follows the others. */
  async #check(isPowerCut: boolean): Promise<void> {
    const process = new Process()
    await this.#machine.run(process, async () => {
      const store = await OpenStore.open(this.#root, `boot-${this.#boot}`, process)
      await store.images.recover()
      assert.deepEqual((await store.images.recover()).swept, [], 'a second recovery changed something')
      for (const name of ['ingest', 'trash'])
        assert.deepEqual(readdirSync(join(this.#root, name)), [], `${name} is not empty`)
      await this.#snapshots.check(store)
      await this.#checkOwed(store)
      await this.#checkListed(store, isPowerCut)
      await store.close(process)
    })
  }

  /** An acknowledged image is in the store, and no registry is asked for it. */
  async #checkOwed(store: OpenStore): Promise<void> {
    this.#network.trouble = 1
    for (const [name, { digests }] of this.#model.owed) {
      using image = await store.images.get(this.#network.source(name), { cached: true })
      assert.ok(digests.has(image.record.digest), `${name} is another image than was acknowledged`)
      this.#checkImage(store, name, image)
    }
  }

  /** Each listed image can be used; after a kill without the registry, after a power cut with it. */
  async #checkListed(store: OpenStore, isPowerCut: boolean): Promise<void> {
    this.#network.trouble = isPowerCut ? 0 : 1
    for (const { reference, imageDigest } of store.metadata.images.listNames()) {
      const current = this.#network.tags.get(reference)?.manifest.digest
      // The registry has only the current image of each name: others that the power cut removed are gone.
      if (isPowerCut && current !== imageDigest) this.#lost.add(imageDigest)
      if (this.#lost.has(imageDigest)) continue
      using image = await store.images.get(this.#network.source(reference), { cached: true })
      this.#checkImage(store, reference, image)
    }
  }

  /** A registry that works repairs everything, and a prune leaves nothing. */
  async end(): Promise<void> {
    const process = new Process()
    await this.#machine.run(process, async () => {
      const store = await OpenStore.open(this.#root, `boot-${this.#boot}`, process)
      await this.#snapshots.end(store)
      this.#network.trouble = 0
      for (const name of NAMES) {
        using image = await store.images.get(this.#network.source(name), { cached: false })
        assert.equal(image.record.digest, this.#network.tags.get(name)?.manifest.digest)
        this.#checkImage(store, name, image)
      }
      await store.images.prune({ named: true, local: true, dryRun: false, excluded: [] })
      await store.layers.settle()
      assert.deepEqual(store.metadata.images.list(), [])
      assert.deepEqual(store.metadata.layers.list(), [])
      for (const folder of ['layers', 'images', 'blobs/sha256', 'trash'])
        assert.deepEqual(readdirSync(join(this.#root, folder)), [], `${folder} is not empty`)
      await store.close(process)
    })
  }
}
