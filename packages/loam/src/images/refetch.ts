import { type ErrorCode, LoamError, throwIfAborted, toLoamError } from '../errors/index.ts'
import type { Digest } from '../image/index.ts'
import type { FsckParts } from '../maintenance/index.ts'
import { type ImageRecord, isOwnWord } from '../metadata/index.ts'
import type { ImageSource } from '../sources/index.ts'
import type { ImageStore } from '../stores/index.ts'
import type { ImageServices } from './services.ts'
import type { FetchOptions } from './requests.ts'

/** Errors of the own store, which no source has. */
const STORE_CODES: readonly ErrorCode[] = ['NO_SPACE', 'READ_ONLY', 'DOCUMENT_DAMAGED', 'LAYER_DAMAGED']

/**
 * Creates a function that refetches a part of an image from a location of the image, under any of its names or of those that its root
 * filesystems were requested by, and returns the location. If all fail, the error has that of each. An error of the own store ends the search.
 */
export function createRefetch(
  { metadata, paths, stores, sources }: Pick<ImageServices, 'metadata' | 'paths' | 'stores' | 'sources'>,
  options: FetchOptions,
): Pick<FsckParts, 'refetchLayer' | 'refetchDocument'> {
  const { images, containers } = metadata
  const namesOf = (digest: Digest) =>
    new Set([
      ...images
        .namesOf(digest)
        // An archive may name any host, and Loam must not contact a host that the user did not name.
        .filter((name) => !isOwnWord(name))
        .map(({ reference }) => reference),
      ...containers
        .rootfses()
        .flatMap(({ imageDigest, reference }) => (imageDigest === digest ? reference : [])),
    ])
  /** Another source would not help. */
  const isOfStore = (error: LoamError) =>
    STORE_CODES.includes(error.code) || String(error.details['path'] ?? '').startsWith(`${paths.root}/`)
  const refetch = async (
    candidates: readonly ImageRecord[],
    act: (store: ImageStore, source: ImageSource, image: ImageRecord) => Promise<void>,
    signal: AbortSignal | undefined,
  ): Promise<string> => {
    const failures: { readonly reference: string; readonly message: string }[] = []
    for (const image of candidates) {
      for (const reference of namesOf(image.digest)) {
        try {
          const { name } = sources.parse(reference)
          await sources.with(name, options, async (source) => act(stores[image.type], source, image))
          return reference
        } catch (error) {
          throwIfAborted(signal, `fetch from ${reference}`)
          const failure = toLoamError(error, `fetch from ${reference}`)
          if (isOfStore(failure)) throw failure
          failures.push({ reference, message: failure.message })
        }
      }
    }
    const [only, ...others] = failures
    if (only === undefined) throw new LoamError('IMAGE_NOT_FOUND', 'no named image contains it')
    const each = failures.map(({ reference, message }) => `${reference}: ${message}`)
    throw new LoamError('IMAGE_NOT_FOUND', others.length === 0 ? only.message : each.join('; '))
  }
  return {
    refetchLayer: async (diffId, signal) =>
      refetch(
        images.usersOfLayer(diffId).flatMap((digest) => images.find(digest) ?? []),
        async (store, source, image) => store.refetchLayer(source, image, diffId, signal),
        signal,
      ),
    refetchDocument: async (image, digest, signal) =>
      refetch([image], async (store, source) => store.refetchDocument(source, image, digest, signal), signal),
  }
}
