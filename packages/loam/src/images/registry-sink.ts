import { Readable } from 'node:stream'
import type { FoundBlob, ImageSink, SinkManifest } from '../exports/index.ts'
import type { Descriptor, Digest, ImageReference } from '../image/index.ts'
import type { RegistryClient } from '../registry/index.ts'
import { putManifest } from '../sources/index.ts'

/** A repository that images are copied to. */
export interface RegistrySinkOptions {
  readonly reference: ImageReference
  readonly client: RegistryClient
  /** Another repository of the same registry that has the blobs; undefined for none. */
  readonly from: string | undefined
  readonly signal: AbortSignal | undefined
}

/** Opens a repository to copy images into. The caller keeps ownership of the client. */
export function openRegistrySink({ reference, client, from, signal }: RegistrySinkOptions): ImageSink {
  const put = async (own: ImageReference, manifest: SinkManifest) =>
    putManifest({ client, reference: own }, manifest, signal)
  return {
    isSinglePlatform: false,
    findBlob: async ({ digest }: Descriptor): Promise<FoundBlob | undefined> => {
      if (await client.hasBlob(reference, digest, signal)) return 'exists'
      if (from === undefined) return undefined
      return (await client.mountBlob(reference, digest, from, signal)) ? 'mounted' : undefined
    },
    putBlob: async (blob, open) => client.putBlob(reference, blob, () => Readable.from(open()), signal),
    hasManifest: async (digest: Digest) =>
      (await client.findPushed({ ...reference, tag: undefined, digest }, signal)) !== undefined,
    hasAnother: async (tag: string, digest: Digest) => {
      const found = await client.findPushed({ ...reference, tag, digest: undefined }, signal)
      return found !== undefined && found.digest !== digest
    },
    putManifest: async (manifest) => put({ ...reference, tag: undefined, digest: manifest.digest }, manifest),
    putImage: async (manifest, names) => {
      if (names.length === 0) await put(reference, manifest)
      for (const tag of names) await put({ ...reference, tag, digest: undefined }, manifest)
    },
  }
}
