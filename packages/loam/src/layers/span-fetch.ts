import { truncate, writeFile, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { LAZY_INDEX_NAME, TAR_NAME } from '../content/index.ts'
import { isLoamError, LoamError, toLoamError } from '../errors/index.ts'
import { type LazyIndex, readLazyIndex, spanOf } from '../lazy-index/index.ts'
import type { IngestResult } from '../transform/index.ts'
import type { LayerLimits } from '../tree/index.ts'
import type { WantedLayer } from './wanted-layer.ts'
import type { LayerWorkers } from './worker-pool.ts'

/** Smaller blobs are here before several requests have begun. */
const MIN_BLOB_BYTES = 32 << 20
/** One thread verifies the tar; a single other one would decompress no sooner than an ingest, which has two. */
const MIN_THREADS = 3
/** Part of a tar that is fetched by one request. */
const SEGMENT_BYTES = 16 << 20
const MAX_SEGMENTS = 64

export interface SpanFetchOptions {
  readonly workers: LayerWorkers
  readonly limits: LayerLimits
  /** Other bounds than usual, for tests and measurements. */
  readonly minThreads?: number
  readonly minBlobBytes?: number
  readonly segmentBytes?: number
}

/** One fetch by spans. */
export interface SpanFetchRequest {
  /** New directory for the files of the layer. */
  readonly directory: string
  readonly unpack: boolean
  readonly signal: AbortSignal | undefined
  readonly onReceived: (receivedBytes: number) => void
}

/**
 * Fetches large layers by the lazy indexes of their blobs: ranges are fetched at once, and their spans are decompressed by several threads, while one
 * verifies the tar in its order. The index needs no trust: what counts is the diffID. One layer at a time: others keep the threads busy in the ordinary way, and the
 * thread that waits for the others never waits for one like it.
 */
export class SpanFetch {
  /** Threads that have such a fetch, of any store of this process. */
  static readonly #busy = new WeakSet<LayerWorkers>()
  readonly #options: Required<SpanFetchOptions>

  constructor({ workers, limits, ...bounds }: SpanFetchOptions) {
    const usual = { minThreads: MIN_THREADS, minBlobBytes: MIN_BLOB_BYTES, segmentBytes: SEGMENT_BYTES }
    this.#options = { workers, limits, ...usual, ...bounds }
  }

  /** Returns whether a layer may be fetched this way now. */
  suits({ blob, isRemote, isResumable }: WantedLayer): boolean {
    const { workers, minThreads, minBlobBytes } = this.#options
    const isBusy = SpanFetch.#busy.has(workers)
    return !isBusy && isRemote && isResumable && blob.sizeBytes >= minBlobBytes && workers.size >= minThreads
  }

  /**
   * Fetches a layer, whose lock the caller has, into the files of a new directory. On failure the caller removes it, and may fetch the layer in the
   * ordinary way. @throws LAZY_INDEX_INVALID, the errors of the source, and those of `ingestLayer`
   */
  async fetch(layer: WantedLayer, indexBytes: Buffer, request: SpanFetchRequest): Promise<IngestResult> {
    const { workers } = this.#options
    SpanFetch.#busy.add(workers)
    try {
      const index = this.#readIndex(layer, indexBytes)
      await mkdir(request.directory, { mode: 0o700 })
      await writeFile(join(request.directory, LAZY_INDEX_NAME), indexBytes, { mode: 0o600, flag: 'wx' })
      const tarPath = join(request.directory, TAR_NAME)
      await writeFile(tarPath, '', { mode: 0o600, flag: 'wx' })
      await truncate(tarPath, index.tarBytes)
      return await new SpanRun(layer, index, request, this.#options).run()
    } finally {
      SpanFetch.#busy.delete(workers)
    }
  }

  #readIndex({ diffId, blob }: WantedLayer, bytes: Buffer): LazyIndex {
    const index = readLazyIndex(bytes, this.#options.limits)
    const isOfLayer =
      index.diffId === diffId && index.blob.digest === blob.digest && index.blob.sizeBytes === blob.sizeBytes
    if (isOfLayer && index.access === 'random') return index
    throw new LoamError(
      'LAZY_INDEX_INVALID',
      `read the lazy index of ${diffId}: it is not one of this layer with checkpoints`,
    )
  }
}

/** Adjacent spans. */
interface Segment {
  readonly from: number
  readonly to: number
}

class SpanRun {
  readonly #layer: WantedLayer
  readonly #index: LazyIndex
  readonly #request: SpanFetchRequest
  readonly #options: Required<SpanFetchOptions>
  readonly #segments: readonly Segment[]
  readonly #front = new TarFront()
  readonly #failed = new AbortController()
  #next = 0
  /** Segments that are here, beyond the first `#whole` ones. */
  readonly #done = new Set<number>()
  #whole = 0
  readonly #received: number[]

  constructor(
    layer: WantedLayer,
    index: LazyIndex,
    request: SpanFetchRequest,
    options: Required<SpanFetchOptions>,
  ) {
    this.#layer = layer
    this.#index = index
    this.#request = request
    this.#options = options
    this.#segments = planSegments(index, options.segmentBytes)
    this.#received = this.#segments.map(() => 0)
  }

  async run(): Promise<IngestResult> {
    const { signal: given } = this.#request
    const signal = given === undefined ? this.#failed.signal : AbortSignal.any([given, this.#failed.signal])
    const lanes = Array.from({ length: this.#options.workers.size - 1 }, async () => this.#lane(signal))
    const results = await Promise.allSettled([this.#assemble(signal), ...lanes])
    // The first failure is the cause of the others.
    if (this.#failed.signal.aborted) throw this.#failed.signal.reason
    const [assembled] = results
    if (assembled.status === 'rejected') throw assembled.reason
    return assembled.value
  }

  async #assemble(signal: AbortSignal): Promise<IngestResult> {
    const { directory, unpack } = this.#request
    const { diffId, tarBytes } = this.#index
    const { limits, workers } = this.#options
    try {
      const task = { kind: 'assemble', diffId, tarBytes, directory, unpack, limits } as const
      return await workers.run(task, { source: () => this.#front.read(), signal })
    } catch (error) {
      this.#fail(error)
      throw error
    }
  }

  async #lane(signal: AbortSignal): Promise<void> {
    try {
      for (let number = this.#take(); number !== undefined; number = this.#take()) {
        await this.#fetchSegment(number, signal)
        this.#advance(number)
      }
    } catch (error) {
      this.#fail(error)
      throw error
    }
  }

  #take(): number | undefined {
    if (this.#next === this.#segments.length) return undefined
    this.#next += 1
    return this.#next - 1
  }

  async #fetchSegment(number: number, signal: AbortSignal): Promise<void> {
    const { from = 0, to = 0 } = this.#segments[number] ?? {}
    const { directory, onReceived } = this.#request
    const { limits, workers } = this.#options
    const offset = spanOf(this.#index, from).blobStart
    const lengthBytes = spanOf(this.#index, to - 1).blobEnd - offset
    const onWhole = () => {
      this.#fail(
        new LoamError('REGISTRY_RESPONSE', `fetch a range of ${this.#layer.blob.digest}: all of it is sent`),
      )
    }
    const [indexPath, tarPath] = [join(directory, LAZY_INDEX_NAME), join(directory, TAR_NAME)]
    await workers.run(
      { kind: 'spans', indexPath, from, to, tarPath, limits },
      {
        source: (given) => this.#layer.open({ offset, lengthBytes, onWhole, signal: given }),
        signal,
        onProgress: (bytes) => {
          this.#received[number] = bytes
          onReceived(this.#received.reduce((sum, received) => sum + received, 0))
        },
      },
    )
  }

  /** Says how far the tar is here without gaps. */
  #advance(number: number): void {
    this.#done.add(number)
    while (this.#done.delete(this.#whole)) this.#whole += 1
    const { tarStarts } = this.#index.spans
    const last = this.#segments[this.#whole - 1]
    if (last !== undefined) this.#front.advance(tarStarts[last.to] ?? 0)
    if (this.#whole === this.#segments.length) this.#front.end()
  }

  #fail(error: unknown): void {
    this.#failed.abort(error)
    this.#front.end(toLoamError(error, `fetch spans of ${this.#layer.blob.digest}`))
  }
}

function planSegments({ spans, tarBytes }: LazyIndex, segmentBytes: number): Segment[] {
  const wantedBytes = Math.max(segmentBytes, tarBytes / MAX_SEGMENTS)
  const segments: Segment[] = []
  for (let from = 0, to = 1; to <= spans.count; to += 1) {
    const bytes = (spans.tarStarts[to] ?? 0) - (spans.tarStarts[from] ?? 0)
    if (bytes < wantedBytes && to < spans.count) continue
    segments.push({ from, to })
    from = to
  }
  return segments
}

/** How far a tar is here, for a reader that follows. */
class TarFront {
  #at = 0
  #isOver = false
  #error: Error | undefined
  #wake: (() => void) | undefined

  advance(to: number): void {
    this.#at = to
    this.#wake?.()
  }

  /** Ends the reader, after what is here; or at once, by an error. */
  end(error?: Error): void {
    this.#isOver = true
    this.#error ??= error
    this.#wake?.()
  }

  /** Yields each new place as an f64. */
  async *read(): AsyncGenerator<Buffer> {
    for (let told = 0; ; ) {
      if (this.#error !== undefined) throw this.#error
      if (told < this.#at) {
        told = this.#at
        const place = Buffer.alloc(8)
        place.writeDoubleLE(told)
        yield place
      } else if (this.#isOver) return
      else {
        const { promise, resolve } = Promise.withResolvers<void>()
        this.#wake = resolve
        await promise
      }
    }
  }
}

/** Returns whether a fetch by spans that failed is followed by an ordinary one: not if it would fail as well. */
export function isWorthOrdinaryFetch(error: unknown): boolean {
  return !isLoamError(error, 'CANCELED', 'NO_SPACE', 'READ_ONLY', 'PERMISSION_DENIED')
}
