import type { Digest } from '../image/index.ts'
import { SNAPSHOT_REF } from '../snapshotter/index.ts'

/** Labels of a snapshot, by key. */
export type Labels = Readonly<Record<string, string>>

/** The labels that clients write: CRI, nerdctl and containerd 2, and ctr-remote. */
const REFERENCE_LABELS = [
  'containerd.io/snapshot/cri.image-ref',
  'containerd.io/snapshot/remote/stargz.reference',
]
const DIGEST_LABELS = [
  'containerd.io/snapshot/cri.layer-digest',
  'containerd.io/snapshot/remote/stargz.digest',
]
/** Blobs of the layer and of those above it that the client is going to request, separated by commas. */
const ANNOUNCED_LABELS = [
  'containerd.io/snapshot/cri.image-layers',
  'containerd.io/snapshot/remote/stargz.layers',
]
const MANIFEST_LABEL = 'containerd.io/snapshot/cri.manifest-digest'

/** A layer as a client names it. */
export interface LabeledLayer {
  readonly reference: string
  /** Digest of its blob. */
  readonly blob: string
  /** Its chainID. */
  readonly ref: string | undefined
}

/** Returns the image that labels name; undefined if they name none. */
export function imageIn(labels: Labels): string | undefined {
  return valueOf(labels, REFERENCE_LABELS)
}

/** Returns the layer that labels name; undefined if they do not name it completely. */
export function layerIn(labels: Labels): LabeledLayer | undefined {
  const reference = imageIn(labels)
  const blob = valueOf(labels, DIGEST_LABELS)
  return reference === undefined || blob === undefined
    ? undefined
    : { reference, blob, ref: labels[SNAPSHOT_REF] }
}

/** Returns those of an image's layers that a client is going to request. */
export function announcedIn<Layer extends { readonly blobDigest: Digest }>(
  labels: Labels,
  layers: readonly Layer[],
): Layer[] {
  const announced = new Set(valueOf(labels, ANNOUNCED_LABELS)?.split(','))
  return layers.filter(({ blobDigest }) => announced.has(blobDigest))
}

/** Returns the reference with the digest that the client has found: its tag may refer to another image by now. */
export function pinnedReference(reference: string, labels: Labels): string {
  const digest = labels[MANIFEST_LABEL]
  if (digest === undefined || reference.includes('@')) return reference
  return `${reference.replace(/:[\w.-]+$/, '')}@${digest}`
}

function valueOf(labels: Labels, names: readonly string[]): string | undefined {
  return names.map((name) => labels[name]).find((value) => value !== undefined && value !== '')
}
