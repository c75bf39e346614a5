/*
 * Chooses the entry of an index that is the image for a platform. Builders put more into an index than images: attestations (BuildKit's, with the
 * platform unknown/unknown), artifacts, indexes; and some leave the platform out.
 * Sources: OCI image-spec image-index.md; BuildKit docs/attestations/attestation-storage.md; containers/image
 * internal/manifest/oci_index.go (an entry without a platform is taken when none fits).
 */
import type { Descriptor, ImageConfig, ImageIndex } from './documents.ts'
import { formatPlatform, type Platform, platformDistance } from './platform.ts'

/** An entry that may be the image for a platform. */
export interface Candidate {
  readonly entry: Descriptor
  /** Whether the index states that it is for the platform; else its config has to. */
  readonly isSure: boolean
}

const REFERENCE_TYPE = 'vnd.docker.reference.type'
const MAX_LISTED = 20

/**
 * Returns the entries that may be the image for a platform, the best first: those for it, of equal ones the first in the index,
 * as in the specification; then those without a platform.
 */
export function rankEntries(entries: readonly Descriptor[], wanted: Platform): Candidate[] {
  const images = imageEntries(entries)
  const fitting = images
    .map((entry) => ({
      entry,
      distance: entry.platform === undefined ? undefined : platformDistance(wanted, entry.platform),
    }))
    .filter(({ distance }) => distance !== undefined)
    .toSorted((a, b) => (a.distance ?? 0) - (b.distance ?? 0))
    .map(({ entry }) => ({ entry, isSure: true }))
  const silent = images.filter(({ platform }) => platform === undefined || isUnknown(platform))
  // If there is no alternative, the platform in the index does not matter.
  const isOnly = images.length === 1
  return [...fitting, ...silent.map((entry) => ({ entry, isSure: isOnly }))]
}

/** Returns whether an image is for a platform. Some tools leave its platform empty; such an image is for every platform. */
export function isFor(
  { platform: { os, architecture, variant } }: Pick<ImageConfig, 'platform'>,
  wanted: Platform,
): boolean {
  return (
    os === '' || architecture === '' || platformDistance(wanted, { os, architecture, variant }) !== undefined
  )
}

/** Describes the content of an index: its platforms, and how many entries of other kinds. */
export function describeEntries({ manifests, others }: Pick<ImageIndex, 'manifests' | 'others'>): string {
  const images = imageEntries(manifests)
  const names = new Set(
    images.map(({ platform }) =>
      platform === undefined ? 'an image without a platform' : formatPlatform(platform),
    ),
  )
  const beside = new Map<string, number>()
  for (const entry of [...manifests.filter(isBeside), ...others]) {
    const kind = kindOf(entry)
    beside.set(kind, (beside.get(kind) ?? 0) + 1)
  }
  const counted = [...beside].map(([kind, count]) => (count === 1 ? kind : `${count} × ${kind}`))
  const parts = [...names, ...counted]
  if (parts.length === 0) return 'nothing'
  const rest = parts.length - MAX_LISTED
  return `${parts.slice(0, MAX_LISTED).join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`
}

/** Leaves out entries of an index that are not images. */
export function imageEntries(entries: readonly Descriptor[]): Descriptor[] {
  return entries.filter((entry) => !isBeside(entry))
}

function isBeside({ annotations, artifactType }: Descriptor): boolean {
  return annotations?.[REFERENCE_TYPE] !== undefined || artifactType !== undefined
}

function isUnknown({ os, architecture }: Platform): boolean {
  return os === 'unknown' && architecture === 'unknown'
}

function kindOf({ annotations, artifactType, mediaType }: Descriptor): string {
  return annotations?.[REFERENCE_TYPE] ?? `artifact ${artifactType ?? mediaType}`
}
