import { type BlobStore, type RetainedBlobs, type StorePaths, sweepPartials } from '../content/index.ts'
import type { DiffId, Digest } from '../image/index.ts'
import type { LayerStore } from '../layers/index.ts'
import { FileLock, TimeSlice } from '../linux/index.ts'
import type { MetadataStore } from '../metadata/index.ts'
import type { ImageNaming } from './find-image.ts'
import { withNestedIndexes } from './resolve.ts'
import type { PruneOptions, PruneResult } from './store.ts'

/** The services that a prune uses. */
export interface PruneParts {
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  readonly blobs: BlobStore
  readonly layers: LayerStore
  readonly retained: RetainedBlobs
  readonly naming: ImageNaming
  /** Held, shared, by callers that store images. */
  readonly documentsLock: string
}

/** Removes the images that no container uses and that may be removed, then the layers and documents that are not needed any more. */
export async function pruneStore(
  parts: PruneParts,
  { dryRun, excluded, only, active = new Set(), named, local }: PruneOptions,
): Promise<PruneResult> {
  const { metadata, layers, naming, paths } = parts
  /** Images that may be removed at this moment, with their names. Other callers may begin to use one, or name it, at any moment. */
  const findUnused = () => {
    const names = metadata.images.listNames()
    const kept = new Set(
      names.filter(({ reference }) => excluded.includes(reference)).map(({ imageDigest }) => imageDigest),
    )
    const namesOfImage = Map.groupBy(names, ({ imageDigest }) => imageDigest)
    const unused = metadata.images
      .unused(naming.type)
      .filter(
        ({ digest, isLocal }) =>
          !kept.has(digest) &&
          (isLocal ? local : named || !namesOfImage.has(digest)) &&
          !excluded.includes(digest) &&
          (only === undefined || only.has(digest)),
      )
    return unused.map(({ digest }) => ({
      digest,
      names: namesOfImage.get(digest)?.map(({ reference }) => reference) ?? [],
    }))
  }
  if (dryRun) {
    const images = findUnused()
    return { images, layers: wouldPrune(parts, images, active), blobs: [] }
  }
  await sweepPartials(paths)
  const images = await metadata.images.removeAll(findUnused)
  const pruned = await layers.prune(active)
  return {
    images,
    layers: pruned,
    blobs: [...(await pruneBlobs(parts)), ...(await sweepRetainedBlobs(parts))],
  }
}

function wouldPrune(
  { metadata }: PruneParts,
  unused: readonly { readonly digest: Digest }[],
  active: ReadonlySet<DiffId>,
): PruneResult['layers'] {
  const gone = new Set(unused.map(({ digest }) => digest))
  const needed = new Set([
    ...active,
    ...metadata.images
      .list()
      .flatMap((image) => (gone.has(image.digest) ? [] : image.layers.map(({ diffId }) => diffId))),
    ...metadata.layers.usedBesidesImages(),
  ])
  const unneeded = metadata.layers.list().filter(({ diffId }) => !needed.has(diffId))
  return unneeded.map(({ diffId, tarBytes }) => ({ diffId, tarBytes }))
}

/** Removes the retained blobs that no image has, and those that the settings do not retain. */
export async function sweepRetainedBlobs({
  retained,
  documentsLock,
  metadata,
}: Pick<PruneParts, 'retained' | 'documentsLock' | 'metadata'>): Promise<Digest[]> {
  // An image that is being fetched has no row yet.
  using lock = FileLock.tryAcquire(documentsLock)
  if (lock === undefined) return []
  return await retained.sweep(metadata.images.layerBlobs())
}

/** While an image is being fetched, its documents have no row yet: then they are left for the next prune. */
async function pruneBlobs({ blobs, documentsLock, metadata }: PruneParts): Promise<Digest[]> {
  using lock = FileLock.tryAcquire(documentsLock)
  if (lock === undefined) return []
  await metadata.origins.prune()
  const slice = new TimeSlice()
  const used = await withNestedIndexes(metadata.images.usedBlobs(), blobs)
  const unused = blobs.list().filter((digest) => !used.has(digest))
  for (const digest of unused) {
    await slice.rest()
    blobs.remove(digest)
  }
  return unused
}
