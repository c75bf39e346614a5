/*
 * Images without an OCI or Docker manifest: archives, ACIs, schema 1 manifests, folders. A source converts them into a manifest, a
 * config and layers, always the same ones, so that the code behind the sources does not know the original format.
 */
import {
  describeBytes,
  type Descriptor,
  digestOf,
  formatManifest,
  MEDIA_TYPES,
  type StoredReference,
} from '../image/index.ts'
import { LoamError } from '../errors/index.ts'
import type { ImageLocation } from '../policy/index.ts'
import type { AskedFor, ImageSource, OpenBlobOptions } from './image-source.ts'

/** A layer, and where its bytes are. */
export interface ConvertedLayer {
  readonly descriptor: Descriptor
  /** As `openBlob` of a source. */
  readonly open: (options: OpenBlobOptions) => AsyncIterable<Buffer>
}

/** An image with its layers, base first. */
export interface ConvertedImage {
  readonly config: Buffer
  readonly layers: readonly ConvertedLayer[]
  /** Undefined: Docker's schema 2, which has none. */
  readonly annotations?: Readonly<Record<string, string>>
  /** More names that it is known by. */
  readonly aliases?: readonly StoredReference[]
  /** Locations that parts of it came from, besides that of its name. */
  readonly from?: readonly ImageLocation[]
  /** As that of a `SourceDocument`. */
  readonly pinNote?: string | undefined
}

export interface ConvertedSourceOptions
  extends Pick<ImageSource, 'name' | 'isRemote' | 'givenBy' | 'aliasesGivenBy' | 'mayReplace'> {
  readonly asked: AskedFor
  /** Locations that it came from, if they differ from that of its name. */
  readonly from?: readonly ImageLocation[] | undefined
  /** Called once, when a part of the image is requested first. */
  readonly convert: (signal: AbortSignal | undefined) => Promise<ConvertedImage>
}

/** Creates a source of an image that is converted when it is needed. */
export function convertedSource({ convert, from, ...source }: ConvertedSourceOptions): ImageSource {
  const { name } = source
  let image: ConvertedImage | undefined
  const own = from ?? source.asked.locations.filter(({ kind }) => kind === 'file')
  const get = async (signal: AbortSignal | undefined) => (image ??= await convert(signal))
  return {
    ...source,
    isConverted: true,
    from: () => [...own, ...(image?.from ?? [])],
    get aliases() {
      return image?.aliases ?? []
    },
    resolve: async (signal) => {
      const converted = await get(signal)
      const { bytes, mediaType } = describeConverted(converted)
      return { bytes, mediaType, digest: digestOf(bytes), pinNote: converted.pinNote }
    },
    // The config is the only other document.
    getDocument: async (descriptor, _limit, signal) => {
      const converted = await get(signal)
      return descriptor.digest === digestOf(converted.config)
        ? converted.config
        : describeConverted(converted).bytes
    },
    openBlob: (descriptor, options = {}) => openPart(descriptor, options),
  }

  async function* openPart(wanted: Descriptor, options: OpenBlobOptions): AsyncGenerator<Buffer> {
    const { config, layers } = await get(options.signal)
    const layer = layers.find(({ descriptor }) => descriptor.digest === wanted.digest)
    if (layer !== undefined) yield* layer.open(options)
    else if (wanted.digest === digestOf(config)) yield config.subarray(options.offset)
    else throw new LoamError('SOURCE_INVALID', `read ${name}: blob ${wanted.digest} is no longer there`)
  }
}

/** Returns the manifest of a converted image: its digest names the image in the store. */
function describeConverted({ config, layers, annotations }: ConvertedImage): {
  bytes: Buffer
  mediaType: string
} {
  const isOci = annotations !== undefined
  const mediaType = isOci ? MEDIA_TYPES.ociManifest : MEDIA_TYPES.dockerManifest
  const bytes = formatManifest({
    mediaType,
    config: describeBytes(isOci ? MEDIA_TYPES.ociConfig : MEDIA_TYPES.dockerConfig, config),
    layers: layers.map(({ descriptor: { mediaType: type, digest, sizeBytes } }) => ({
      mediaType: type,
      digest,
      sizeBytes,
    })),
    annotations,
    order: 'docker',
  })
  return { bytes, mediaType }
}
