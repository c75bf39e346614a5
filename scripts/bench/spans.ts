// How a lazy index speeds up the pull of one large gzip layer, without a network: by the threads of this machine, and simulated for more
// processors than it has. Simulated means: the work of all spans divided by the processors beside the one that verifies the tar, or that verification
// alone if it takes longer. Memory bandwidth and the disk are not part of it.
import { createReadStream, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import type { Digest, DiffId } from '../../packages/loam/src/image/index.ts'
import { WorkerPool } from '../../packages/loam/src/layers/index.ts'
import { SpanFetch } from '../../packages/loam/src/layers/span-fetch.ts'
import { readLazyIndex } from '../../packages/loam/src/lazy-index/index.ts'
import { DEFAULT_LAYER_LIMITS as limits } from '../../packages/loam/src/tree/index.ts'
import { median } from './measure.ts'

const SIMULATED = [2, 3, 4, 8, 16]
const CHUNK_BYTES = 256 << 10

interface Layer {
  readonly path: string
  readonly blob: { readonly digest: Digest; readonly sizeBytes: number }
  readonly diffId: DiffId
}

/** Prints the times for the first layer of an OCI layout. */
export async function benchSpans(layout: string, folder: string, runs: number): Promise<void> {
  const layer = firstLayer(layout)
  const directory = join(folder, 'spans')
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory)
  try {
    await using pool = new WorkerPool(Math.max(3, availableParallelism()))
    const times = new Times(layer, directory, pool)
    const index = await times.makeIndex()
    const ordinary = await medianOf(runs, () => times.ordinary())
    const bySpans = await medianOf(runs, () => times.bySpans(index))
    const spans = await medianOf(runs, () => times.spansAlone(index))
    const assemble = await medianOf(runs, () => times.assembleAlone(index))
    const speedUp = (seconds: number) => `${seconds.toFixed(2)} s (${(ordinary / seconds).toFixed(2)} ×)`
    console.log(`
one layer of ${layer.blob.sizeBytes} bytes, without a network; medians of ${runs}, ${availableParallelism()} processors
  ordinary pull: ${ordinary.toFixed(2)} s; making the index alone: ${times.makeSeconds.toFixed(2)} s, ${index.length} bytes
  by spans, measured with ${pool.size} threads: ${speedUp(bySpans)}
  work of the spans: ${spans.toFixed(2)} s; verification in order: ${assemble.toFixed(2)} s`)
    for (const processors of SIMULATED)
      console.log(
        `  simulated, ${processors} processors: ${speedUp(Math.max(assemble, (spans + assemble) / processors, spans / (processors - 1)))}`,
      )
  } finally {
    rmSync(directory, { recursive: true })
  }
}

async function medianOf(runs: number, act: () => Promise<number>): Promise<number> {
  const found: number[] = []
  for (let run = 0; run < runs; run += 1) found.push(await act())
  return median(found)
}

function firstLayer(layout: string): Layer {
  const blobPath = (digest: string) => join(layout, 'blobs', ...digest.split(':'))
  const json = (path: string) => JSON.parse(readFileSync(path, 'utf8')) as never
  const { manifests } = json(join(layout, 'index.json')) as { manifests: { digest: string }[] }
  const { layers, config } = json(blobPath(manifests[0]?.digest ?? '')) as {
    layers: { digest: Digest; size: number }[]
    config: { digest: string }
  }
  const { rootfs } = json(blobPath(config.digest)) as { rootfs: { diff_ids: DiffId[] } }
  const [layer] = layers
  const [diffId] = rootfs.diff_ids
  if (layer === undefined || diffId === undefined) throw new Error(`${layout} has no layer`)
  return { path: blobPath(layer.digest), blob: { digest: layer.digest, sizeBytes: layer.size }, diffId }
}

/** One layer that is fetched in several ways, each time into a new directory. */
class Times {
  readonly #layer: Layer
  readonly #folder: string
  readonly #pool: WorkerPool
  makeSeconds = 0

  constructor(layer: Layer, folder: string, pool: WorkerPool) {
    this.#layer = layer
    this.#folder = folder
    this.#pool = pool
  }

  async makeIndex(): Promise<Buffer> {
    const { blob, diffId } = this.#layer
    const target = join(this.#folder, 'index')
    const task = { kind: 'lazy-index', blob, diffId, target, limits } as const
    this.makeSeconds = await this.#timed(async () => this.#pool.run(task, { source: () => this.#read({}) }))
    return readFileSync(target)
  }

  async ordinary(): Promise<number> {
    const { blob, diffId } = this.#layer
    return this.#inDirectory(async (directory) => {
      const rest = { directory, unpack: false, syncEarly: false, lazyIndex: false, limits }
      await this.#pool.run({ kind: 'ingest', blob, diffId, ...rest }, { source: () => this.#read({}) })
    })
  }

  async bySpans(index: Buffer): Promise<number> {
    const fetch = new SpanFetch({ workers: this.#pool, limits })
    const open = (range: { offset?: number; lengthBytes?: number }) => this.#read(range)
    const layer = { ...this.#layer, open, isResumable: true, isRemote: true }
    return this.#inDirectory(async (directory) => {
      await fetch.fetch(layer, index, {
        directory,
        unpack: false,
        signal: undefined,
        onReceived: () => undefined,
      })
    })
  }

  /** One thread, all spans. */
  async spansAlone(index: Buffer): Promise<number> {
    const { spans, tarBytes } = readLazyIndex(index, limits)
    const offset = spans.blobStarts[0] ?? 0
    return this.#inDirectory(async (directory) => {
      mkdirSync(directory)
      const tarPath = join(directory, 'layer.tar')
      writeFileSync(tarPath, '')
      truncateSync(tarPath, tarBytes)
      const task = {
        kind: 'spans',
        indexPath: join(this.#folder, 'index'),
        from: 0,
        to: spans.count,
        tarPath,
        limits,
      } as const
      await this.#pool.run(task, { source: () => this.#read({ offset }) })
    })
  }

  /** One thread, which verifies a tar that is here. */
  async assembleAlone(index: Buffer): Promise<number> {
    const { tarBytes } = readLazyIndex(index, limits)
    const { blob, diffId } = this.#layer
    const directory = join(this.#folder, 'here')
    const rest = { directory, unpack: false, syncEarly: false, lazyIndex: false, limits }
    await this.#pool.run({ kind: 'ingest', blob, diffId, ...rest }, { source: () => this.#read({}) })
    rmSync(join(directory, 'layer.erofs'))
    const place = Buffer.alloc(8)
    place.writeDoubleLE(tarBytes)
    const task = { kind: 'assemble', diffId, tarBytes, directory, unpack: false, limits } as const
    const seconds = await this.#timed(async () => this.#pool.run(task, { source: () => once(place) }))
    rmSync(directory, { recursive: true })
    return seconds
  }

  #read({ offset = 0, lengthBytes }: { offset?: number; lengthBytes?: number }): AsyncIterable<Buffer> {
    const end = lengthBytes === undefined ? undefined : offset + lengthBytes - 1
    return createReadStream(this.#layer.path, { start: offset, end, highWaterMark: CHUNK_BYTES })
  }

  async #inDirectory(act: (directory: string) => Promise<void>): Promise<number> {
    const directory = join(this.#folder, 'layer')
    const seconds = await this.#timed(async () => act(directory))
    rmSync(directory, { recursive: true })
    return seconds
  }

  async #timed(act: () => Promise<unknown>): Promise<number> {
    const start = performance.now()
    await act()
    return (performance.now() - start) / 1000
  }
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes
}
