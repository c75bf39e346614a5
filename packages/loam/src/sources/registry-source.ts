import { formatReference, type ImageReference } from '../image/index.ts'
import type { RegistryClient } from '../registry/index.ts'
import type { ImageSource } from './image-source.ts'

/** Makes a source of an image in a registry. The client stays its owner's. */
export function registrySource(reference: ImageReference, client: RegistryClient): ImageSource {
  return {
    name: formatReference(reference),
    aliases: [],
    isRemote: true,
    resolve: async (signal) => {
      const { bytes, contentType, digest } = await client.getManifest(reference, signal)
      return { bytes, mediaType: contentType, digest }
    },
    getDocument: async (descriptor, maxBytes, signal) => {
      // Registries keep manifests and blobs apart.
      if (/manifest|index/.test(descriptor.mediaType)) {
        const { bytes } = await client.getManifest({ ...reference, digest: descriptor.digest }, signal)
        return bytes
      }
      return client.getBlob(reference, descriptor, { maxBytes, signal })
    },
    openBlob: (descriptor, signal) => client.streamBlob(reference, descriptor, signal),
  }
}
