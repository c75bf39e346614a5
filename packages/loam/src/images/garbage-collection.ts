import { isLoamError, LoamError } from '../errors/index.ts'
import type { DiffId, Digest } from '../image/index.ts'
import { fileSystemUsage } from '../linux/index.ts'
import { IMAGE_GC_EXAMPLE, type ImageGcConfig } from '../config/index.ts'
import type { LayerStore, PrunedLayer } from '../layers/index.ts'
import { IMAGE_TYPES, type ImageRecord, type ImageType, type LayerRecord } from '../metadata/index.ts'
import type { PruneResult } from '../stores/index.ts'
import type { ImageRequest } from '../sources/index.ts'
import type { ImageServices } from './services.ts'
import type { CollectionReport, PruneReport } from './results.ts'
import { formatAnyName } from './source-opener.ts'

type CollectionServices = Pick<
  ImageServices,
  'configuration' | 'paths' | 'metadata' | 'layers' | 'sources' | 'stores' | 'retained'
>

type PruneServices = Pick<ImageServices, 'configuration' | 'sources' | 'stores'>

/** The images that a prune removes in addition to those without a name. */
export interface PruneImagesOptions {
  /** Report what would be removed, and remove nothing. Undefined: false. */
  readonly dryRun?: boolean
  /** Remove images with a name, too. Undefined: true if `excluded` or `image_gc_config` says which images to keep, as on a Mesos agent. */
  readonly all?: boolean | undefined
  /** Remove images that exist nowhere else, too, with and without a name: committed, put, imported, or read from a file. */
  readonly local?: boolean | undefined
  /** Images to keep, in addition to those that `image_gc_config` excludes. */
  readonly excluded?: readonly (string | ImageRequest)[]
  /** The store to prune. Undefined: all. */
  readonly type?: ImageType | undefined
}

/** Removes images without a name that no container uses and that can be fetched again, and layers and documents that no image needs. */
export async function pruneImages(
  services: PruneServices,
  options: PruneImagesOptions,
): Promise<PruneReport> {
  const { dryRun = false, type, local = false } = options
  const { image_gc_config: config } = services.configuration.values
  const said = options.excluded ?? []
  const named = options.all ?? (said.length > 0 || config !== undefined)
  const excluded = [
    ...said.map((image) => nameOf(services, image)),
    ...namesOf(services, config?.excludedImages ?? []),
  ]
  const failed = dryRun ? [] : (await services.stores.docker.recover()).failed
  const types = type === undefined ? IMAGE_TYPES : [type]
  const results: PruneResult[] = []
  for (const each of types)
    results.push(await services.stores[each].prune({ dryRun, excluded, named, local }))
  return { ...joinResults(results), failed }
}

/** An image without a name is kept by its digest. @throws IMAGE_NOT_FOUND for an ID that is not that of one image of the store */
function nameOf({ sources }: Pick<ImageServices, 'sources'>, image: string | ImageRequest): string {
  return formatAnyName(sources.find(image).name)
}

/** As `nameOf` for each; an ID that is not in the store keeps nothing. */
function namesOf(
  services: Pick<ImageServices, 'sources'>,
  images: readonly (string | ImageRequest)[],
): string[] {
  return images.flatMap((image) => {
    try {
      return nameOf(services, image)
    } catch (error) {
      if (isLoamError(error, 'IMAGE_NOT_FOUND')) return []
      throw error
    }
  })
}

function joinResults(results: readonly PruneResult[]): PruneResult {
  const layers = new Map(results.flatMap((result) => result.layers).map((layer) => [layer.diffId, layer]))
  return {
    images: results.flatMap(({ images }) => images),
    layers: [...layers.values()],
    blobs: [...new Set(results.flatMap(({ blobs }) => blobs))],
  }
}

/**
 * Frees space. First it evicts the data of layers above `disk_budget`. Then it evicts the least recently used images until there is as much free space as
 * `image_gc_config` requires: on the file system if less than the headroom is free, and in each store above its high watermark. Images in use,
 * excluded images and images that exist nowhere else stay. Linear in images and layers. @throws CONFIG_INVALID without these settings
 */
export async function collectGarbage(
  services: CollectionServices,
  { dryRun = false }: { readonly dryRun?: boolean },
): Promise<CollectionReport> {
  const { image_gc_config: config, containerizers, disk_budget: budget } = services.configuration.values
  if (config === undefined && budget === undefined) {
    throw new LoamError('CONFIG_INVALID', 'collect images: neither image_gc_config nor disk_budget is set', {
      hint: `Set one of them, for example: ${IMAGE_GC_EXAMPLE}`,
    })
  }
  const excluded = namesOf(services, config?.excludedImages ?? [])
  const data = await evictData(services, { budget, excluded, dryRun })
  if (config === undefined || !containerizers.includes('mesos')) return { ...joinResults([]), ...data }
  const images = await evictImages(services, config, dryRun)
  return {
    ...images,
    evicted: data.evicted,
    reasons: [...data.reasons, ...images.reasons],
    wantedBytes: data.wantedBytes + images.wantedBytes,
    freedBytes: data.freedBytes + images.freedBytes,
  }
}

type EvictedData = Pick<CollectionReport, 'evicted' | 'reasons' | 'wantedBytes' | 'freedBytes'>

/**
 * Evicts the data of layers until those of the store fit into the budget: layers whose images were used least recently first. Images that are kept here
 * on purpose, or exist nowhere else, keep their data: a registry may have collected the base that they were made from.
 */
async function evictData(
  { metadata, layers }: Pick<CollectionServices, 'metadata' | 'layers'>,
  {
    budget,
    excluded,
    dryRun,
  }: Readonly<{ budget: number | undefined; excluded: readonly string[]; dryRun: boolean }>,
): Promise<EvictedData> {
  const bytes = budget === undefined ? 0 : layersBytes({ metadata, layers })
  if (budget === undefined || bytes <= budget)
    return { evicted: [], reasons: [], wantedBytes: 0, freedBytes: 0 }
  const isKept = keptImages({ metadata }, excluded)
  const usedAtMs = new Map<DiffId, number>()
  const kept = new Set<DiffId>()
  for (const image of metadata.images.list())
    for (const diffId of layersOf(image)) {
      usedAtMs.set(diffId, Math.max(usedAtMs.get(diffId) ?? 0, image.usedAtMs))
      if (isKept(image)) kept.add(diffId)
    }
  const candidates = layers.eviction
    .candidates()
    .filter(({ diffId }) => !kept.has(diffId))
    .toSorted((a, b) => (usedAtMs.get(a.diffId) ?? 0) - (usedAtMs.get(b.diffId) ?? 0))
  const evicted: PrunedLayer[] = []
  const wantedBytes = bytes - budget
  let freedBytes = 0
  for (const layer of candidates) {
    if (freedBytes >= wantedBytes) break
    if (!(await layers.eviction.evict(layer.diffId, { dryRun }))) continue
    evicted.push(layer)
    freedBytes += layer.tarBytes
  }
  const reasons = [`layers take ${bytes} bytes, and disk_budget is ${budget}`]
  return { evicted, reasons, wantedBytes, freedBytes }
}

function layersBytes({ metadata, layers }: Pick<CollectionServices, 'metadata' | 'layers'>): number {
  return metadata.layers.list().reduce((sum, layer) => sum + bytesOnDisk(layer, layers), 0)
}

function bytesOnDisk({ data, diffId, tarBytes }: LayerRecord, { partial }: LayerStore): number {
  return data === 'complete' ? tarBytes : partial.diskBytes(diffId)
}

async function evictImages(
  services: CollectionServices,
  config: ImageGcConfig,
  dryRun: boolean,
): Promise<Omit<CollectionReport, 'evicted'>> {
  const reasons: string[] = []
  const heap = new LayerRefCounts(services)
  let wantedBytes = 0
  const want = (bytes: number, reason: string) => {
    wantedBytes += bytes
    reasons.push(reason)
  }
  const candidates = findCandidates(services, namesOf(services, config.excludedImages))
  const victims = new Set<Digest>()
  const collect = (bytes: number, types: readonly ImageType[]) => {
    let freed = 0
    for (const image of candidates) {
      if (freed >= bytes) break
      if (!types.includes(image.type) || victims.has(image.digest)) continue
      victims.add(image.digest)
      freed += heap.remove(image)
    }
    return freed
  }
  let freedBytes = 0
  let retainedBytes = 0
  const removed: PruneResult[] = []
  for (const type of IMAGE_TYPES) {
    const watermarks = config.stores[type]
    const bytes = heap.bytesOf(type)
    if (watermarks === undefined || bytes <= watermarks.highBytes) continue
    want(
      bytes - watermarks.lowBytes,
      `the ${type} store has ${bytes} bytes, the limit is ${watermarks.highBytes}`,
    )
    freedBytes += collect(bytes - watermarks.lowBytes, [type])
  }
  const { totalBytes, usedBytes } = fileSystemUsage(services.paths.root)
  if (config.headroom + usedBytes / totalBytes > 1) {
    const bytes = Math.ceil(usedBytes - config.lowWatermark * totalBytes)
    want(
      bytes,
      `${usedBytes} of ${totalBytes} bytes of the file system are in use, and ${config.headroom} of it must stay free`,
    )
    // Nothing depends on retained blobs. Images that are removed for another reason free space, too.
    const blobs = services.retained.oldest(bytes - freedBytes)
    for (const blob of dryRun ? [] : blobs) await services.retained.remove(blob)
    retainedBytes = blobs.reduce((sum, blob) => sum + blob.bytes, 0)
    removed.push({ ...joinResults([]), blobs: blobs.map(({ digest }) => digest) })
    freedBytes += collect(bytes - freedBytes - retainedBytes, IMAGE_TYPES)
  }
  if (victims.size === 0) return { ...joinResults(removed), reasons, wantedBytes, freedBytes: retainedBytes }
  const results = removed
  for (const type of IMAGE_TYPES) {
    const options = { dryRun, excluded: [], only: victims, named: true, local: false }
    results.push(await services.stores[type].prune(options))
  }
  const joined = joinResults(results)
  return {
    ...joined,
    reasons,
    wantedBytes,
    freedBytes: joined.layers.reduce((sum, { tarBytes }) => sum + tarBytes, retainedBytes),
  }
}

/** Returns the images that may be removed and can be fetched again, the least recently used first. */
function findCandidates(
  { metadata }: Pick<ImageServices, 'metadata'>,
  excluded: readonly string[],
): ImageRecord[] {
  const isKept = keptImages({ metadata }, excluded)
  const used = new Set(
    [...metadata.containers.rootfses(), ...metadata.additionalImages.list()].map(
      ({ imageDigest }) => imageDigest,
    ),
  )
  return metadata.images
    .list()
    .filter((image) => !isKept(image) && !used.has(image.digest))
    .toSorted((a, b) => a.usedAtMs - b.usedAtMs)
}

/** Returns whether an image is never removed automatically: it is local, or excluded by its name or digest. */
function keptImages(
  { metadata }: Pick<ImageServices, 'metadata'>,
  excluded: readonly string[],
): (image: ImageRecord) => boolean {
  const named = new Set(
    metadata.images
      .listNames()
      .filter(({ reference }) => excluded.includes(reference))
      .map(({ imageDigest }) => imageDigest),
  )
  return ({ digest, isLocal }) => isLocal || named.has(digest) || excluded.includes(digest)
}

/** Counts the images that need each layer, so that the space freed by removing an image is known. */
class LayerRefCounts {
  readonly #users = new Map<DiffId, number>()
  readonly #bytes: ReadonlyMap<DiffId, number>
  readonly #images: readonly ImageRecord[]

  constructor({ metadata, layers }: Pick<ImageServices, 'metadata' | 'layers'>) {
    this.#images = metadata.images.list()
    this.#bytes = new Map(metadata.layers.list().map((layer) => [layer.diffId, bytesOnDisk(layer, layers)]))
    const needed = [...this.#images.map(layersOf), metadata.layers.usedBesidesImages()]
    for (const diffIds of needed)
      for (const diffId of diffIds) this.#users.set(diffId, (this.#users.get(diffId) ?? 0) + 1)
  }

  /** Bytes of the layers of a store's images, each layer once. */
  bytesOf(type: ImageType): number {
    const layers = new Set(
      this.#images.filter((image) => image.type === type).flatMap((image) => [...layersOf(image)]),
    )
    return [...layers].reduce((sum, diffId) => sum + (this.#bytes.get(diffId) ?? 0), 0)
  }

  /** Removes an image and returns the bytes of the layers that no image needs any more. */
  remove(image: ImageRecord): number {
    let freed = 0
    for (const diffId of layersOf(image)) {
      const left = (this.#users.get(diffId) ?? 0) - 1
      this.#users.set(diffId, left)
      if (left === 0) freed += this.#bytes.get(diffId) ?? 0
    }
    return freed
  }
}

function layersOf({ layers }: ImageRecord): Set<DiffId> {
  return new Set(layers.map(({ diffId }) => diffId))
}
