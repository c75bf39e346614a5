import { LoamError, toLoamError } from '../errors/index.ts'
import type { FsckParts } from '../maintenance/index.ts'
import type { ImageRecord, MetadataStore } from '../metadata/index.ts'
import type { ImageSource } from '../sources/index.ts'
import type { DockerStore } from '../stores/index.ts'

/** Opens the source of a name and does something with it. */
type WithSource = (name: string, act: (source: ImageSource) => Promise<void>) => Promise<void>

/** Makes what fetches a part of an image again from where the image came, under any of its names, and tells which it was. */
export function makeRefetch(
  images: MetadataStore['images'],
  store: DockerStore,
  withSource: WithSource,
): Pick<FsckParts, 'refetchLayer' | 'refetchDocument'> {
  const refetch = async (
    candidates: readonly ImageRecord[],
    act: (source: ImageSource, image: ImageRecord) => Promise<void>,
  ): Promise<string> => {
    const failures: string[] = []
    for (const image of candidates) {
      for (const { reference } of images
        .listNames()
        .filter(({ imageDigest }) => imageDigest === image.digest)) {
        try {
          await withSource(reference, async (source) => act(source, image))
          return reference
        } catch (error) {
          failures.push(toLoamError(error, `fetch from ${reference}`).message)
        }
      }
    }
    throw new LoamError('IMAGE_NOT_FOUND', failures.join('; ') || 'no image that has it has a name')
  }
  return {
    refetchLayer: async (diffId, signal) =>
      refetch(
        images.list().filter(({ layers }) => layers.some((layer) => layer.diffId === diffId)),
        async (source, image) => store.refetchLayer(source, image, diffId, signal),
      ),
    refetchDocument: async (image, digest, signal) =>
      refetch([image], async (source) => store.refetchDocument(source, image, digest, signal)),
  }
}
