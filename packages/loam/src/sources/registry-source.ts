import { registryLocation } from '../policy/index.ts'
import { formatReference, type ImageReference, isSchema1 } from '../image/index.ts'
import type { BlobRange, RegistryClient } from '../registry/index.ts'
import type { ImageSource, OpenBlobOptions } from './image-source.ts'
import type { InflateOptions } from './blob-file.ts'
import { convertArtifact, filesOfArtifact } from './artifact-image.ts'
import { type ConvertedImage, convertedSource } from './converted.ts'
import { registryLazyArtifacts } from './lazy-artifacts.ts'
import { explainMissing } from './missing-image.ts'
import { findReferrers } from './referrers.ts'
import { convertSchema1 } from './schema1-image.ts'
import { findSignatures } from './signatures.ts'

/** Creates a source of an image in a registry, or with `mayBeArtifact` also of an artifact. The caller keeps ownership of the client. */
export function registrySource(
  reference: ImageReference,
  client: RegistryClient,
  newPath: () => string,
  {
    mayBeArtifact = false,
    limits,
  }: {
    readonly mayBeArtifact?: boolean | undefined
    /** Of each layer that a conversion reads. */
    readonly limits?: InflateOptions['limits']
  } = {},
): ImageSource {
  const name = formatReference(reference)
  const asked = { locations: [registryLocation(reference)], pin: reference.digest }
  /** The image that a schema 1 manifest or an artifact was converted into. */
  let converted: ImageSource | undefined
  return {
    name,
    asked,
    aliases: [],
    origin: () => (converted === undefined ? name : undefined),
    isRemote: true,
    isConverted: false,
    resolve: async (signal) => {
      const { bytes, contentType, digest } = await client
        .getManifest(reference, signal)
        .catch(async (error: unknown) => {
          throw await explainMissing(error, reference, client, signal)
        })
      const what = `manifest ${digest} of ${name}`
      const from = { reference, client, newPath, limits }
      const convertTo = async (kind: string, convert: (given: typeof signal) => Promise<ConvertedImage>) => {
        converted = convertedSource({ name, asked, isRemote: true, convert })
        const document = await converted.resolve(signal)
        const pinNote = `the registry has ${kind}, which Loam converts to ${document.digest}`
        return { ...document, pinNote }
      }
      if (isSchema1(bytes, contentType))
        return convertTo('a schema 1 manifest', async (given) =>
          convertSchema1(bytes, what, { ...from, signal: given }),
        )
      const files = mayBeArtifact ? filesOfArtifact(bytes, what) : undefined
      if (files === undefined) return { bytes, mediaType: contentType, digest }
      return convertTo('an artifact', async (given) =>
        convertArtifact(files, what, { ...from, signal: given }),
      )
    },
    getDocument: async (descriptor, limit, signal) => {
      if (converted !== undefined) return converted.getDocument(descriptor, limit, signal)
      // Manifests and blobs have separate addresses in a registry.
      if (limit.kind === 'manifest') {
        const { bytes } = await client.getManifest({ ...reference, digest: descriptor.digest }, signal)
        return bytes
      }
      return client.getBlob(reference, descriptor, { maxBytes: limit.maxBytes, signal })
    },
    findSignatures: (digests, signal) => findSignatures(client, reference, digests, signal),
    findReferrers: async (digests, signal) => findReferrers(client, reference, digests, signal),
    get lazyArtifacts() {
      return converted === undefined ? registryLazyArtifacts(client, reference) : undefined
    },
    get isResumable() {
      return converted === undefined
    },
    openBlob: (descriptor, options = {}) =>
      converted === undefined
        ? client.streamBlob(reference, descriptor, options.signal, rangeOf(options))
        : converted.openBlob(descriptor, options),
  }
}

function rangeOf({ offset = 0, lengthBytes, onWhole }: OpenBlobOptions): BlobRange {
  return { fromByte: offset, endByte: lengthBytes === undefined ? undefined : offset + lengthBytes, onWhole }
}
