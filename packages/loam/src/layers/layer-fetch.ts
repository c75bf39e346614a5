import { existsSync, statSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { traced, tracedStream } from '../activity/index.ts'
import {
  clearName,
  type IngestArea,
  type SharedIndexes,
  layerPath,
  moveOver,
  PartialBlob,
  type RetainedBlobs,
  type StorePaths,
  sweepPartials,
  sweepRetained,
  LAZY_INDEX_NAME,
  META_NAME,
  SPAN_MAP_NAME,
  type ArtifactKind,
  TAR_NAME,
} from '../content/index.ts'
import { type ErrorCode, isLoamError } from '../errors/index.ts'
import type { DiffId } from '../image/index.ts'
import { removeTree } from '../linux/index.ts'
import type { MetadataStore } from '../metadata/index.ts'
import type { LayerLimits } from '../tree/index.ts'
import { newArtifactRecord } from './artifact-record.ts'
import { sizeOf } from './file-state.ts'
import { hasIndex } from './index-file.ts'
import type { LayerBlob, IngestResult } from '../transform/index.ts'
import { isWorthOrdinaryFetch, type SpanFetch } from './span-fetch.ts'
import { SmallBlobs } from './small-blobs.ts'
import type { WantedLayer } from './wanted-layer.ts'
import type { LayerWorkers } from './worker-pool.ts'

export interface LayerFetchOptions {
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  readonly workers: LayerWorkers
  readonly smallBlobs: SmallBlobs
  readonly ingest: () => IngestArea
  readonly limits: LayerLimits
  readonly bootId: string
  readonly retained: RetainedBlobs
  /** Make the lazy indexes of fetched layers. */
  readonly lazyIndex?: boolean
  /** Fetches large layers whose blobs have a lazy index. */
  readonly spans: SpanFetch
  readonly indexDirectory?: SharedIndexes | undefined
}

/** Options of one fetch. */
export interface FetchRequest {
  readonly signal: AbortSignal | undefined
  readonly unpack: boolean
  readonly syncEarly: boolean
  readonly onReceived: (receivedBytes: number) => void
}

/** Blobs that are worth a file of their own: a smaller one comes again at once. Keeping costs some 5 % of the processor time of a pull. */
const MIN_KEPT_BYTES = 1 << 20

/** Larger lazy indexes are not used for a faster fetch. */
const MAX_INDEX_BYTES = 64 << 20

/** Errors of data that the source, or something in between, may have damaged. */
const TRANSFER_CODES: readonly ErrorCode[] = ['DIGEST_MISMATCH', 'SIZE_MISMATCH', 'COMPRESSION_INVALID']
/** Errors that kept bytes may cause if they are not those of the blob. */
const CONTENT_CODES: readonly ErrorCode[] = [...TRANSFER_CODES, 'TAR_INVALID', 'TAR_UNSAFE', 'LAYER_LIMIT']

/**
 * Fetches a layer from its blob: the part received before is used, and the received data is kept until the layer is complete and verified. The caller
 * has the layer's lock. On failure only the kept part is left. @throws the errors of the source and of `ingestLayer`
 */
export async function fetchLayer(
  layer: WantedLayer,
  request: FetchRequest,
  options: LayerFetchOptions,
): Promise<void> {
  for (let tried = 1; ; tried += 1) {
    using partial = claimPartial(layer, options)
    try {
      const isComplete = tried === 1 && (await fetchBySpans(layer, request, partial, options))
      if (!isComplete) await fetchOnce(layer, request, partial, options)
      if (partial !== undefined && isRetained(layer, options))
        await options.retained.adopt(partial, layer.blob.digest, layer.blob.sizeBytes)
      await partial?.drop()
      return
    } catch (error) {
      const isWorthAnother = await clearWay(error, layer, partial, options.paths)
      if (tried === 2 || !isWorthAnother || request.signal?.aborted === true) throw error
    }
  }
}

/**
 * Fetches a large layer by the lazy index of its blob, if one is at hand and nothing of the blob is here or is to be kept. Returns whether the layer is complete.
 * @throws CANCELED, NO_SPACE and other errors that an ordinary fetch would meet as well
 */
async function fetchBySpans(
  layer: WantedLayer,
  { signal, onReceived, ...request }: FetchRequest,
  partial: PartialBlob | undefined,
  options: LayerFetchOptions,
): Promise<boolean> {
  const isBegun = partial !== undefined && partial.keptBytes > 0
  if (isBegun || isRetained(layer, options) || !options.spans.suits(layer)) return false
  const { diffId } = layer
  const directory = options.ingest().newPath('layer')
  const unpack = request.unpack && !existsSync(layerPath(options.paths, diffId))
  try {
    const index = await findIndex(layer, options, signal)
    if (index === undefined) return false
    const result = await traced('layer.spans', {}, async () =>
      options.spans.fetch(layer, index, { directory, unpack, signal, onReceived }),
    )
    await traced('layer.commit', {}, async () => {
      await commit(diffId, { directory, unpack, result }, options)
    })
    return true
  } catch (error) {
    if (signal?.aborted === true || !isWorthOrdinaryFetch(error)) throw error
    return false
  } finally {
    await removeTree(directory)
  }
}

/**
 * The index at hand: that of the same layer, whose tar is missing or damaged; one that machines share; or the caller's. Those that cannot be read are
 * passed over, and so are denied ones: a layer is fetched without one as well. @throws CANCELED
 */
async function findIndex(
  { lazyIndex, diffId, blob }: WantedLayer,
  { paths, metadata: { layers }, indexDirectory }: LayerFetchOptions,
  signal: AbortSignal | undefined,
): Promise<Buffer | undefined> {
  const path = join(layerPath(paths, diffId), LAZY_INDEX_NAME)
  const places = [
    async () => {
      const source = layers.partialSource(diffId)
      const isDenied = source !== undefined && layers.denialOf(source.indexDigest) !== undefined
      return sizeOf(path) !== undefined && !isDenied ? readFile(path) : undefined
    },
    async () => {
      const shared = await indexDirectory?.find(blob.digest, MAX_INDEX_BYTES)
      return shared === undefined || layers.denialOf(shared.digest) !== undefined ? undefined : shared.bytes
    },
    async () => lazyIndex?.(),
  ]
  for (const read of places) {
    try {
      const index = await read()
      if (index !== undefined) return index
    } catch (error) {
      if (signal?.aborted === true || isLoamError(error, 'CANCELED')) throw error
    }
  }
  return undefined
}

/** A blob that is not compressed is the tar itself. */
function isRetained(
  { blob, diffId, isRemote, isResumable }: WantedLayer,
  { retained }: LayerFetchOptions,
): boolean {
  return retained.isOn && isRemote && isResumable && blob.digest !== diffId
}

function claimPartial(layer: WantedLayer, options: LayerFetchOptions): PartialBlob | undefined {
  const { blob, isResumable } = layer
  const { paths } = options
  const isWorthAFile = blob.sizeBytes >= MIN_KEPT_BYTES || isRetained(layer, options)
  if (!isResumable || !isWorthAFile) return undefined
  return PartialBlob.claim(paths, blob.digest, blob.sizeBytes)
}

/** Removes the cause of a failure if it was Loam's own. Returns whether another try may succeed. */
async function clearWay(
  error: unknown,
  { isRemote }: WantedLayer,
  partial: PartialBlob | undefined,
  paths: StorePaths,
): Promise<boolean> {
  if (isLoamError(error, ...CONTENT_CODES)) {
    const wasResumed = partial !== undefined && partial.keptBytes > 0
    await partial?.drop()
    return wasResumed || (isRemote && isLoamError(error, ...TRANSFER_CODES))
  }
  if (!isLoamError(error, 'NO_SPACE')) return false
  // What is kept of other blobs makes room for this one.
  const droppedBytes = (await partial?.drop()) ?? 0
  return droppedBytes + (await sweepPartials(paths)) + (await sweepRetained(paths)) > 0
}

async function fetchOnce(
  { diffId, blob, open, isRemote }: WantedLayer,
  { signal, onReceived, ...request }: FetchRequest,
  partial: PartialBlob | undefined,
  options: LayerFetchOptions,
): Promise<void> {
  const { paths, workers, smallBlobs, ingest, limits } = options
  const directory = ingest().newPath('layer')
  const unpack = request.unpack && !existsSync(layerPath(paths, diffId))
  const { syncEarly } = request
  const openFresh = (given: AbortSignal) => open({ signal: given })
  const fetch = (given: AbortSignal) =>
    tracedStream('layer.fetch', { keptBytes: partial?.keptBytes }, () =>
      partial === undefined ? openFresh(given) : partial.resume((offset) => open({ offset, signal: given })),
    )
  const lazyIndex = isRemote && options.lazyIndex === true
  const task = { kind: 'ingest', blob, diffId, directory, unpack, syncEarly, lazyIndex, limits } as const
  try {
    const ingestFrom = async (from: (given: AbortSignal) => AsyncIterable<Buffer>) =>
      traced('layer.ingest', {}, async () =>
        workers.run(task, { source: from, signal, onProgress: onReceived }),
      )
    const isEarly = isRemote && partial === undefined && SmallBlobs.isSmall(blob)
    const result = isEarly
      ? await smallBlobs.with(fetch, async (pieces) => ingestFrom(() => inTurn(pieces)), signal)
      : await ingestFrom(fetch)
    await traced('layer.commit', {}, async () => {
      await commit(diffId, { directory, unpack, result }, options)
    })
  } finally {
    await removeTree(directory)
  }
}

async function* inTurn(pieces: readonly Buffer[]): AsyncGenerator<Buffer> {
  yield* pieces
}

/** The blob of a layer of which nothing else is known. */
export interface UnknownLayer {
  readonly blob: LayerBlob
  /** Opens the blob; called once. */
  readonly open: (signal: AbortSignal) => AsyncIterable<Buffer>
}

/**
 * Turns a blob into the files of its layer, in a new directory, and calls `use` with the digest of its tar and with a function that commits them. What is not
 * committed is removed. @throws the errors of the source and of `ingestLayer`
 */
export async function ingestUnknown<T>(
  { blob, open }: UnknownLayer,
  signal: AbortSignal | undefined,
  options: LayerFetchOptions,
  use: (diffId: DiffId, commitTo: () => Promise<void>) => Promise<T>,
): Promise<T> {
  const { workers, ingest, limits } = options
  const directory = ingest().newPath('layer')
  const task = {
    kind: 'ingest',
    blob,
    diffId: undefined,
    directory,
    unpack: false,
    syncEarly: true,
    lazyIndex: false,
    limits,
  } as const
  try {
    const result = await traced('layer.ingest', {}, async () => workers.run(task, { source: open, signal }))
    return await use(result.diffId, async () =>
      commit(result.diffId, { directory, unpack: false, result }, options),
    )
  } finally {
    await removeTree(directory)
  }
}

/**
 * Commits the name first, then the row; a layer that is not on the disk yet is valid in this boot only. The index that a layer was pulled lazily by stays with its
 * row if it has proved right, in the place of a new one. Otherwise the row goes: it would say of another index what it says of that one.
 */
async function commit(
  diffId: DiffId,
  { directory, unpack, result }: { directory: string; unpack: boolean; result: IngestResult },
  options: LayerFetchOptions,
): Promise<void> {
  const { paths, metadata, bootId } = options
  const final = layerPath(paths, diffId)
  const keepsSource = await hasProvedIndex(diffId, options)
  // An error of the file system is not taken for a folder that is not there.
  if (statSync(final, { throwIfNoEntry: false })?.isDirectory() === true) {
    // The tar of a known layer was lost. Its folder stays: containers may be running on the artifacts in it.
    for (const name of [META_NAME, TAR_NAME, ...(keepsSource ? [] : [LAZY_INDEX_NAME])])
      if (existsSync(join(directory, name))) moveOver(paths, join(directory, name), join(final, name))
      // A lazy index that was here before may be one that was never compared with the tar.
      else if (name === LAZY_INDEX_NAME) clearName(paths, join(final, name))
    clearName(paths, join(final, SPAN_MAP_NAME))
  } else {
    moveOver(paths, directory, final)
  }
  const createdAtMs = Date.now()
  const artifacts: ArtifactKind[] = unpack ? ['tar', 'meta', 'unpacked'] : ['tar', 'meta']
  await metadata.layers.putFetched(
    { data: 'complete', ...result, createdAtMs },
    artifacts.map((kind) => newArtifactRecord(diffId, kind, bootId)),
    keepsSource,
  )
}

/** Returns whether a layer was complete after it was pulled lazily, and still has the index that it was pulled by. */
async function hasProvedIndex(
  diffId: DiffId,
  { paths, metadata: { layers }, workers }: LayerFetchOptions,
): Promise<boolean> {
  const source = layers.partialSource(diffId)
  if (source === undefined || layers.find(diffId)?.data !== 'complete') return false
  if (layers.denialOf(source.indexDigest) !== undefined) return false
  return hasIndex(workers, join(layerPath(paths, diffId), LAZY_INDEX_NAME), source.indexDigest)
}
