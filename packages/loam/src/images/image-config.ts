import { LoamError } from '../errors/index.ts'
import type { RootfsRecord } from '../metadata/index.ts'
import type { ImageServices } from './services.ts'

/** Returns the config of the image that a root filesystem was created from. @throws IMAGE_NOT_FOUND, DOCUMENT_DAMAGED, DOCUMENT_TOO_LARGE */
export function configOfRootfs(
  { metadata, blobs }: Pick<ImageServices, 'metadata' | 'blobs'>,
  { containerId, imageDigest }: RootfsRecord,
): Buffer {
  const image = metadata.images.find(imageDigest)
  if (image !== undefined) return blobs.get(image.configDigest, 'config')
  throw new LoamError(
    'IMAGE_NOT_FOUND',
    `read the config of container ${containerId}: its image ${imageDigest} is not in the store`,
  )
}
