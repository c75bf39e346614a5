import type { DiffId, Digest } from '../image/index.ts'
import type { ContentsLevel, HiddenFile, LayerShare } from '../transform/index.ts'
import { getImage } from './image-list.ts'
import type { ImageOptions } from './requests.ts'
import type { ImageServices } from './services.ts'

/** Which directory of an image to list. */
export interface ContentsOptions extends ImageOptions {
  /** Path of the directory, in the form of the names that are listed. Undefined: the root. Symlinks are not followed. */
  readonly path?: string | undefined
  /** Number of the layer to look into, base first, from 0. Undefined: the image as containers see it. */
  readonly layer?: number | undefined
}

/** The files that one layer of an image adds, and those of them that later layers hide. */
export interface ImageLayerContents extends LayerShare {
  /** The layer. */
  readonly diffId: DiffId
}

/** One directory of an image or of one of its layers, and the files that its layers add and hide. */
export interface ImageContents extends ContentsLevel {
  /** Digest of the image's manifest. */
  readonly digest: Digest
  /** Number of the layer that the directory is of; undefined for the image as containers see it. */
  readonly layer: number | undefined
  /** The layers, base first. */
  readonly layers: readonly ImageLayerContents[]
  /** The largest files that later layers hide, the largest first. */
  readonly hidden: readonly HiddenFile[]
}

type ContentsServices = Pick<
  ImageServices,
  'metadata' | 'blobs' | 'stores' | 'sources' | 'layers' | 'readContents'
>

/** Lists one directory of an image of the store. @throws IMAGE_NOT_FOUND, LAYER_NOT_FOUND, PATH_NOT_FOUND, USAGE */
export async function readImageContents(
  services: ContentsServices,
  text: string,
  options: ContentsOptions,
): Promise<ImageContents> {
  const { path = '/', layer, signal } = options
  const record = getImage(services, text, { ...options, attempted: 'look into' })
  const diffIds = record.layers.map(({ diffId }) => diffId)
  using _leases = await services.layers.leaseTrees(diffIds, signal)
  const { level, layers, hidden } = await services.readContents(diffIds, { path, layer }, signal)
  return {
    digest: record.digest,
    layer,
    ...level,
    layers: layers.map((share, index) => ({ diffId: diffIds[index] as DiffId, ...share })),
    hidden,
  }
}
