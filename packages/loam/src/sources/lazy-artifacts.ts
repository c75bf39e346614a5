// Registries keep the artifact of an image's lazy indexes under the tag sha256-<hex>.loam and as its referrer.
import * as v from 'valibot'
import {
  check,
  type Digest,
  type ImageReference,
  isDigest,
  lazyArtifactTag,
  MEDIA_TYPES,
  parseStrictJson,
} from '../image/index.ts'
import type { RegistryClient } from '../registry/index.ts'
import type { LazyArtifacts } from './image-source.ts'
import { fittingEntries, listSchema } from './listed-entries.ts'
import { pushLazyArtifact } from './push-lazy-artifact.ts'

/** Further referrers are ignored: anybody who may push can add some. */
const MAX_REFERRERS = 8

const EntrySchema = v.object({
  digest: v.custom<Digest>(isDigest, 'is not a digest'),
  artifactType: v.literal(MEDIA_TYPES.lazyArtifact),
})
const ReferrersSchema = v.object({ manifests: listSchema })

/** Creates the place of the artifacts beside an image in a registry. */
export function registryLazyArtifacts(client: RegistryClient, reference: ImageReference): LazyArtifacts {
  const findByDigest = async (digest: Digest, signal: AbortSignal | undefined) =>
    client.findManifest({ ...reference, digest }, signal)
  return {
    find: async function* find(image, { pin, isOwn = false, signal }) {
      if (pin !== undefined) {
        const pinned = await findByDigest(pin, signal)
        if (pinned !== undefined) yield pinned
        return
      }
      const named = { ...reference, tag: lazyArtifactTag(image), digest: undefined }
      const tagged = await (isOwn
        ? client.findOwnManifest(named, signal)
        : client.findManifest(named, signal))
      if (tagged !== undefined) yield tagged
      for (const digest of await findReferrers(client, reference, image, signal)) {
        if (digest === tagged?.digest) continue
        // The list may name a manifest that was removed.
        const referrer = await findByDigest(digest, signal)
        if (referrer !== undefined) yield referrer
      }
    },
    getBlob: async (blob, options) => client.getBlob(reference, blob, options),
    push: async (artifact, blobs, signal) => pushLazyArtifact({ client, reference }, artifact, blobs, signal),
  }
}

async function findReferrers(
  client: RegistryClient,
  reference: ImageReference,
  image: Digest,
  signal: AbortSignal | undefined,
): Promise<Digest[]> {
  const what = `referrers of ${image}`
  const pages = await client.getReferrers(reference, image, signal)
  const listed = pages.flatMap(
    (bytes) => check(ReferrersSchema, parseStrictJson(bytes, what), what).manifests ?? [],
  )
  return fittingEntries(EntrySchema, listed)
    .map(({ digest }) => digest)
    .slice(0, MAX_REFERRERS)
}
