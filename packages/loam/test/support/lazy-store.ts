// A store with partial layers of an image in a registry of this process, the handler of the store, and their mount.
import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { decompress } from '../../src/compression/index.ts'
import { readConfiguration } from '../../src/config/index.ts'
import { layerPath, openStoreRoot, type StorePaths } from '../../src/content/index.ts'
import { digestOf, type DiffId, parseDiffId } from '../../src/image/index.ts'
import { newArtifactRecord, readDeviceTags } from '../../src/layers/index.ts'
import { createSpanMap } from '../../src/layers/span-map.ts'
import { type DeniedLayer, HandlerClient, type LazyStatus, startHandler } from '../../src/lazy/index.ts'
import { type LazyIndex, LazyIndexMaker, readLazyIndex, readSkeleton } from '../../src/lazy-index/index.ts'
import { endHolder, findHolders, mountErofs, readBootId, unmountAll } from '../../src/linux/index.ts'
import { type MetadataStore, openMetadata } from '../../src/metadata/index.ts'
import { TarReader } from '../../src/tar/index.ts'
import {
  buildImage,
  type BuildCompression,
  buildTar,
  type BuiltImage,
  RegistryServer,
} from '../../src/testing/index.ts'
import { writeImageFile } from '../../src/transform/image-file.ts'
import {
  applyLayer,
  DEFAULT_LAYER_LIMITS,
  FileTree,
  LayerTreeBuilder,
  TREE_GENERATION,
} from '../../src/tree/index.ts'
import { gather } from './world.ts'

const SUMMARY = {
  entries: 1,
  fileBytes: 2,
  hasOpaqueRoot: false,
  hasImplicitDirectories: false,
  hasLowerLinks: false,
  hasZeroDevices: false,
  hasWhiteouts: false,
  root: undefined,
  generation: TREE_GENERATION,
}

export interface LazyStoreOptions {
  /** Files of each layer. */
  readonly files?: number
  readonly layers?: number
  readonly spanBytes?: number
  readonly compression?: BuildCompression
  readonly settings?: Readonly<Record<string, unknown>>
  /** The registry and the lazy index have other bytes than the diffIDs say. */
  readonly isLying?: boolean
  /** A folder on another file system. */
  readonly folder?: string
  readonly state?: string
}

/** What a reader has read: the sum of each file, or its error. */
export type ReadSums = ReadonlyMap<string, string>

interface LazyStoreFields {
  readonly folder: string
  readonly registry: RegistryServer
  readonly image: BuiltImage
  readonly diffIds: readonly DiffId[]
  /** The sum of each file, by its path in the mount. */
  readonly sums: ReadSums
  readonly mount: string
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  readonly client: HandlerClient
  readonly denied: readonly DeniedLayer[]
  readonly state: string
}

export class LazyStore implements AsyncDisposable {
  readonly folder: string
  readonly registry: RegistryServer
  readonly image: BuiltImage
  readonly diffIds: readonly DiffId[]
  /** The sum of each file, by its path in the mount. */
  readonly sums: ReadSums
  readonly mount: string
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  readonly client: HandlerClient
  /** Layers whose lazy index was found to be wrong. */
  readonly denied: readonly DeniedLayer[]
  readonly state: string

  private constructor(fields: LazyStoreFields) {
    const { folder, registry, image, diffIds, sums, mount, paths, metadata, client, denied, state } = fields
    this.folder = folder
    this.registry = registry
    this.image = image
    this.diffIds = diffIds
    this.sums = sums
    this.mount = mount
    this.paths = paths
    this.metadata = metadata
    this.client = client
    this.denied = denied
    this.state = state
  }

  /** Makes a store whose layers are partial; nothing is served or mounted yet. */
  static async create(options: LazyStoreOptions = {}): Promise<LazyStore> {
    const { layers = 2, compression = 'gzip', settings = {} } = options
    const folder = options.folder ?? realpathSync(mkdtempSync(join(tmpdir(), 'loam-lazy-')))
    const made = Array.from({ length: layers }, (_, layer) => makeFiles(layer, options.files ?? 40))
    const tars = made.map((files) => buildTar([...files].map(([name, data]) => ({ name, data }))))
    const { diffIds } = buildImage({ tars, compression })
    if (options.isLying === true) for (const tar of tars) tar.writeUInt8(tar.readUInt8(600) ^ 1, 600)
    const image = buildImage({ tars, compression })
    const registry = await RegistryServer.start()
    registry.addImage('app', '1', image)
    const state = options.state ?? join(folder, 'state')
    const { values } = readConfiguration({
      flags: { root: join(folder, 'store'), state, ...settings },
      file: null,
    })
    const paths = openStoreRoot(values.root)
    const metadata = await openMetadata(paths, undefined)
    const env = { PATH: process.env['PATH'], HOME: folder }
    const denied: DeniedLayer[] = []
    const start = async () => startHandler({ values, userId: 0, env, cwd: folder })
    const client = new HandlerClient(state, start, (layer) => denied.push(layer))
    const store = new LazyStore({
      folder,
      registry,
      image,
      diffIds: diffIds.map((diffId) => parseDiffId(diffId)),
      sums: new Map(made.flatMap((files) => [...files].map(([name, data]) => [name, sha256(data)] as const))),
      mount: join(folder, 'mount'),
      paths,
      metadata,
      client,
      denied,
      state,
    })
    mkdirSync(store.mount)
    await store.#putLayers(options.spanBytes ?? 128 << 10)
    return store
  }

  async #putLayers(spanBytes: number): Promise<void> {
    const merged = new FileTree()
    for (const [index, diffId] of this.diffIds.entries()) {
      const blob = this.image.layers[index]?.bytes ?? Buffer.alloc(0)
      const bytes = await makeLazyIndex(blob, diffId, spanBytes)
      const directory = layerPath(this.paths, diffId)
      mkdirSync(directory)
      writeFileSync(join(directory, 'layer.lazy-index'), bytes)
      const { tarBytes, skeletonPieces, spans } = readLazyIndex(bytes, DEFAULT_LAYER_LIMITS)
      const tar = openSync(join(directory, 'layer.tar'), 'w')
      ftruncateSync(tar, tarBytes)
      closeSync(tar)
      createSpanMap(join(directory, 'layer.spans'), spans.count, readBootId())
      const builder = new LayerTreeBuilder(DEFAULT_LAYER_LIMITS)
      const reader = new TarReader((entry) => {
        builder.add(entry)
      })
      for (const piece of readSkeleton(skeletonPieces(), tarBytes, reader)) void piece
      applyLayer(merged, builder.tree, index)
      const layer = { diffId, tarBytes, summary: SUMMARY, createdAtMs: 1, data: 'partial' } as const
      const source = {
        diffId,
        blob: {
          digest: digestOf(blob),
          mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
          sizeBytes: blob.length,
        },
        reference: `${this.registry.host}/app:1`,
        indexDigest: digestOf(bytes),
        trustedBy: 'own',
      }
      await this.metadata.layers.putPartial(layer, source, newArtifactRecord(diffId, 'meta', readBootId()))
    }
    mkdirSync(dirname(this.imagePath))
    writeImageFile(merged, this.imagePath, {
      contents: 'merged',
      data: 'tar',
      as: 'cached',
      layers: this.diffIds.map((diffId) => ({ diffId, tarPath: this.tarPath(diffId) })),
    })
  }

  /** The lazy index of the first layer. */
  get index(): LazyIndex {
    const path = join(layerPath(this.paths, this.diffId), 'layer.lazy-index')
    return readLazyIndex(readFileSync(path), DEFAULT_LAYER_LIMITS)
  }

  /** The first layer. */
  get diffId(): DiffId {
    const [diffId] = this.diffIds
    if (diffId === undefined) throw new Error('no layers')
    return diffId
  }

  /** The merged image. */
  get imagePath(): string {
    return join(this.paths.images, this.diffId, 'merged.erofs')
  }

  tarPath(diffId: DiffId): string {
    return join(layerPath(this.paths, diffId), 'layer.tar')
  }

  /** Lets the reads of all layers wait, and mounts them. */
  async show(): Promise<void> {
    await this.client.serve(this.diffIds)
    this.mountLayers()
  }

  mountLayers(): void {
    const image = this.imagePath
    const devices = readDeviceTags(image).map((tag) => {
      const diffId = this.diffIds.find((each) => each.endsWith(tag))
      if (diffId === undefined) throw new Error(`no layer ${tag}`)
      return this.tarPath(diffId)
    })
    mountErofs({ image, devices, target: this.mount, by: 'file' })
  }

  /**
   * Reads files in another process, in a random order, and returns their sums; an error of a file is its text. The process is started by the words of
   * `by`.
   */
  async read(
    names: readonly string[] = [...this.sums.keys()],
    by: readonly string[] = ['env'],
  ): Promise<ReadSums> {
    const order = names.toSorted(() => Math.random() - 0.5)
    const [program = '', ...words] = by
    const child = spawn(program, [...words, 'sha256sum', '--', ...order], { cwd: this.mount })
    const [stdout, stderr] = [gather(child.stdout), gather(child.stderr)]
    const { promise, resolve } = Promise.withResolvers<void>()
    child.once('close', () => {
      resolve()
    })
    await promise
    const read = [...stdout().matchAll(/^([0-9a-f]{64}) {2}(.+)$/gm)].map(
      ([, sum = '', name = '']) => [name, sum] as const,
    )
    const failed = [...stderr().matchAll(/^sha256sum: (.+): (.+)$/gm)].map(
      ([, name = '', why = '']) => [name, why] as const,
    )
    return new Map([...read, ...failed])
  }

  /** Returns the names of files whose bytes were wrong, and of those that failed. */
  compare(read: ReadSums): { readonly wrong: string[]; readonly failed: string[] } {
    const differing = [...read].filter(([name, sum]) => this.sums.get(name) !== sum)
    const isSum = (sum: string) => /^[0-9a-f]{64}$/.test(sum)
    return {
      wrong: differing.filter(([, sum]) => isSum(sum)).map(([name]) => name),
      failed: differing.filter(([, sum]) => !isSum(sum)).map(([name]) => name),
    }
  }

  async status(): Promise<LazyStatus> {
    const status = await this.client.status()
    if (status === undefined) throw new Error(`no handler runs: ${this.log()}`)
    return status
  }

  log(): string {
    return readFileSync(join(this.state, 'lazy/log'), 'utf8')
  }

  /** Ends the handler and the shell that starts it again, but not the holder. */
  async endHandler(): Promise<void> {
    const status = await this.client.status().catch(() => undefined)
    if (status === undefined) return
    const [, parent = ''] = /^PPid:\t(\d+)/m.exec(readFileSync(`/proc/${status.pid}/status`, 'utf8')) ?? []
    process.kill(Number(parent), 'SIGKILL')
    process.kill(status.pid, 'SIGKILL')
    while (isRunning(status.pid)) await new Promise((resolve) => setTimeout(resolve, 5))
  }

  endHolders(): void {
    for (const holder of findHolders(join(this.state, 'lazy'))) endHolder(holder)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.client.release()
    await this.endHandler()
    // Without a holder all reads go on.
    this.endHolders()
    unmountAll(this.mount)
    await this.registry[Symbol.asyncDispose]()
    this.metadata[Symbol.dispose]()
    rmSync(this.folder, { recursive: true })
  }
}

function isRunning(pid: number): boolean {
  try {
    return !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

/** Files of which no two are equal, and whose data compresses by about half. */
function makeFiles(layer: number, count: number): Map<string, Buffer> {
  return new Map(
    Array.from({ length: count }, (_, index) => {
      const size = index % 7 === 0 ? 300_000 : 3_000 + index * 1_000
      const half = randomBytes(size / 2).toString('hex')
      return [`layer${layer}-file${index}`, Buffer.from(half)] as const
    }),
  )
}

function sha256(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex')
}

async function makeLazyIndex(blob: Buffer, diffId: DiffId, spanBytes: number): Promise<Buffer> {
  const reader = new TarReader(() => undefined)
  const checkpoints = new LazyIndexMaker(reader, { spanBytes })
  let tarBytes = 0
  async function* chunks() {
    for (let at = 0; at < blob.length; at += 16_384) yield Buffer.from(blob.subarray(at, at + 16_384))
  }
  for await (const chunk of decompress(chunks(), { checkpoints })) {
    checkpoints.write(chunk)
    tarBytes += chunk.length
  }
  reader.end()
  const parts = checkpoints.end({
    blob: { digest: digestOf(blob), sizeBytes: blob.length },
    diffId,
    tarBytes,
  })
  if (parts === undefined) throw new Error('the blob has no lazy index')
  return Buffer.concat(parts)
}
