/*
 * Writers for the parsers of documents.ts. The bytes identify an image: the order of fields is part of the contract, and must not change.
 */
import { LoamError } from '../errors/index.ts'
import { type Descriptor, listReferences, parseManifestDocument } from './documents.ts'
import { type DiffId, type Digest, digestOf } from './digest.ts'
import { parseStrictJson } from './json.ts'

/**
 * The order of the fields of a descriptor: as in the OCI specification, or as Docker and skopeo write them, so that a converted
 * image has the digest that it would have from them.
 */
export type DescriptorOrder = 'oci' | 'docker'

/** A descriptor that is written; `annotations` and others follow. */
export type WrittenDescriptor = Pick<Descriptor, 'mediaType' | 'digest' | 'sizeBytes'> & {
  readonly platform?: object | undefined
  readonly annotations?: Readonly<Record<string, string>> | undefined
  readonly artifactType?: string | undefined
}

/** A manifest that is written. */
export interface NewManifest {
  readonly mediaType: string
  readonly artifactType?: string | undefined
  readonly config: WrittenDescriptor
  /** Base first. */
  readonly layers: readonly WrittenDescriptor[]
  readonly subject?: WrittenDescriptor | undefined
  readonly annotations?: Readonly<Record<string, string>> | undefined
  /** `oci` by default. */
  readonly order?: DescriptorOrder | undefined
}

/** An index that is written. */
export interface NewIndex {
  /** Undefined: the index does not state it. */
  readonly mediaType?: string | undefined
  readonly manifests: readonly WrittenDescriptor[]
}

/** An entry of an index that is changed. */
export interface IndexEntry extends Descriptor {
  /** Its JSON as others wrote it, which stays but for the annotations; undefined for a new entry. */
  readonly fields?: Readonly<Record<string, unknown>>
}

/** Describes bytes in memory. */
export function describeBytes(
  mediaType: string,
  bytes: Buffer,
  digest: Digest = digestOf(bytes),
): Descriptor {
  return { mediaType, digest, sizeBytes: bytes.length }
}

/** Writes a manifest of one image. Fields that are undefined are left out. */
export function formatManifest({ mediaType, artifactType, order = 'oci', ...given }: NewManifest): Buffer {
  const { config, layers, subject, annotations } = given
  return toJson({
    schemaVersion: 2,
    mediaType,
    artifactType,
    config: plain(config, order),
    layers: layers.map((layer) => plain(layer, order)),
    subject: subject === undefined ? undefined : plain(subject, order),
    annotations,
  })
}

/** Writes an index. */
export function formatIndex({ mediaType, manifests }: NewIndex): Buffer {
  return toJson({ schemaVersion: 2, mediaType, manifests: manifests.map((entry) => plain(entry, 'oci')) })
}

/** Writes the same index with other entries: all else stays, also fields that Loam does not know. @throws DOCUMENT_INVALID */
export function changeIndex(
  index: Buffer,
  what: string,
  change: (entries: readonly IndexEntry[]) => readonly IndexEntry[],
): Buffer {
  if (parseManifestDocument(index, undefined, what).kind !== 'index')
    throw new LoamError('DOCUMENT_INVALID', `read ${what}: it is not an index`)
  const document = parseStrictJson(index, what) as Fields
  const listed = document[keyOf(document, 'manifests')] as readonly Fields[] | null | undefined
  const own = listReferences(index, what).manifests.map((entry, at) => ({
    ...entry,
    fields: listed?.[at] ?? {},
  }))
  const annotationsOf = new Map(own.map(({ fields, annotations }) => [fields, annotations]))
  const manifests = change(own).map(({ fields, ...entry }) => {
    if (fields === undefined) return plain(entry, 'oci')
    const { annotations } = entry
    return annotationsOf.get(fields) === annotations ? fields : withField(fields, 'annotations', annotations)
  })
  return toJson(withField(document, 'manifests', manifests))
}

type Fields = Readonly<Record<string, unknown>>

/** Replaces a field where it is, or adds it. */
function withField(value: Fields, name: string, changed: unknown): object {
  return { ...value, [keyOf(value, name)]: changed }
}

/** Returns the key of a field: Go's programs read it whatever its case. */
function keyOf(value: Fields, name: string): string {
  return Object.keys(value).find((key) => key.toLowerCase() === name) ?? name
}

/** Writes an image config: `fields` unchanged, and the layers, base first. If `history` is undefined, that of the fields stays. */
export function formatConfig(
  fields: object,
  diffIds: readonly DiffId[],
  history?: readonly object[],
): Buffer {
  return toJson({
    ...fields,
    rootfs: { type: 'layers', diff_ids: diffIds },
    ...(history === undefined ? {} : { history }),
  })
}

/** Writes the same manifest with other layers: everything else stays, including annotations of layers. @throws DOCUMENT_INVALID */
export function replaceLayers(manifest: Buffer, layers: readonly Descriptor[]): Buffer {
  const value = parseStrictJson(manifest, 'manifest') as {
    readonly layers: readonly Readonly<Record<string, unknown>>[]
  }
  const changed = value.layers.map((layer, index) => {
    const descriptor = layers[index]
    if (descriptor === undefined || descriptor.digest === layer['digest']) return layer
    const { urls: _urls, ...rest } = layer
    return { ...rest, mediaType: descriptor.mediaType, digest: descriptor.digest, size: descriptor.sizeBytes }
  })
  return toJson({ ...value, layers: changed })
}

function plain(descriptor: WrittenDescriptor, order: DescriptorOrder): object {
  const { mediaType, digest, sizeBytes: size, platform, annotations, artifactType } = descriptor
  const own = order === 'oci' ? { mediaType, digest, size } : { mediaType, size, digest }
  return { ...own, artifactType, platform, annotations }
}

/** JSON.stringify leaves out undefined fields. */
function toJson(value: object): Buffer {
  return Buffer.from(JSON.stringify(value))
}
