import { type Digest, splitDigest } from './digest.ts'

/** Maximum length of a tag (OCI distribution-spec, "Pulling manifests"). */
const MAX_TAG = 128

/** Returns the tag under which clients keep the list of a manifest's referrers in registries without the referrers API (OCI distribution-spec, "Referrers Tag Schema"). */
export function referrersTag(subject: Digest): string {
  const { algorithm, hex } = splitDigest(subject)
  return `${algorithm}-${hex.slice(0, 64)}`
}

/** Returns the tag of what cosign keeps beside a manifest, which it does not shorten; undefined for a digest that is too long. */
export function cosignTag(subject: Digest, suffix: 'sig' | 'att' | 'sbom'): string | undefined {
  const { algorithm, hex } = splitDigest(subject)
  const tag = `${algorithm}-${hex}.${suffix}`
  return tag.length > MAX_TAG ? undefined : tag
}
