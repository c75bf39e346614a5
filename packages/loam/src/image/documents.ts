import * as v from 'valibot'
import { isLoamError, LoamError } from '../errors/index.ts'
import { type DiffId, type Digest, isDigest } from './digest.ts'
import { goList, goStruct, goText, goTextMap, goTexts } from './go-json.ts'
import { parseStrictJson } from './json.ts'
import {
  isConfigType,
  isIndexType,
  isLayerType,
  isManifestType,
  isVagueType,
  MEDIA_TYPES,
  plainType,
} from './media-types.ts'
import type { Platform } from './platform.ts'

/** Descriptor of a blob: its type, digest and size in bytes (OCI image-spec descriptor.md). */
export interface Descriptor {
  /** Media type of the blob. */
  readonly mediaType: string
  /** Digest of the blob. */
  readonly digest: Digest
  /** Size of the blob in bytes. */
  readonly sizeBytes: number
  /** Undefined if the document leaves it out, or names neither system nor architecture. */
  readonly platform?: Platform | undefined
  /** Annotations of the descriptor. */
  readonly annotations?: Readonly<Record<string, string>> | undefined
  /** The type of an artifact, if its descriptor states one. */
  readonly artifactType?: string | undefined
  /** Other addresses of the data. */
  readonly urls?: readonly string[] | undefined
}

/** One image for one platform: OCI manifest or Docker schema 2. Layers are in order, base first; one may come twice. */
export interface ImageManifest {
  readonly kind: 'manifest'
  readonly mediaType: string
  readonly config: Descriptor
  readonly layers: readonly Descriptor[]
  readonly annotations: Readonly<Record<string, string>>
}

/** Images for several platforms: OCI index or Docker manifest list. */
export interface ImageIndex {
  readonly kind: 'index'
  readonly mediaType: string
  /** Entries that may be images or indexes by their type. */
  readonly manifests: readonly Descriptor[]
  /** Entries of other types. */
  readonly others: readonly Descriptor[]
}

/** The process that an image runs, and the layers below it (OCI image-spec config.md). */
export interface ImageConfig {
  readonly platform: Platform
  readonly created: string | undefined
  readonly diffIds: readonly DiffId[]
  readonly run: RunConfig
}

/** The `config` object: defaults for a process. Image text; never a path or an option of the host. */
export interface RunConfig {
  /** `user[:group]`; empty for root. */
  readonly user: string
  /** Variables as `KEY=VALUE`. */
  readonly env: readonly string[]
  /** Program and first arguments. */
  readonly entrypoint: readonly string[]
  /** Arguments, or a program if there is no entrypoint. */
  readonly cmd: readonly string[]
  /** Directory that the process starts in; empty for `/`. */
  readonly workingDir: string
  /** Signal that stops it; undefined: the runtime's default. */
  readonly stopSignal: string | undefined
  /** Paths that are meant for volumes. */
  readonly volumes: readonly string[]
  /** Ports as `80/tcp`. */
  readonly exposedPorts: readonly string[]
  /** Labels of the image. */
  readonly labels: Readonly<Record<string, string>>
}

/** Limits of documents, in bytes. They are settings, which the reader of a document gets as a parameter. */
export interface DocumentLimits {
  /** A manifest, an index, or the file that replaces one in an archive. */
  readonly manifestBytes: number
  readonly configBytes: number
}

/** Kinds of documents, each with its limit. */
export type DocumentKind = 'manifest' | 'config'

/** The default limits; registries themselves allow manifests of up to 4 MiB. */
export const DEFAULT_DOCUMENT_LIMITS: DocumentLimits = { manifestBytes: 4 << 20, configBytes: 8 << 20 }

/** The limit of one kind of document. */
export interface DocumentLimit {
  readonly kind: DocumentKind
  readonly maxBytes: number
}

/** Returns the limit of a kind. */
export function limitOf(kind: DocumentKind, { manifestBytes, configBytes }: DocumentLimits): DocumentLimit {
  return { kind, maxBytes: kind === 'manifest' ? manifestBytes : configBytes }
}

/** Refuses a document above its limit, and names the setting. @throws DOCUMENT_TOO_LARGE */
export function checkDocumentSize(
  attempted: string,
  sizeBytes: number,
  { kind, maxBytes }: DocumentLimit,
): void {
  if (sizeBytes <= maxBytes) return
  const setting = kind === 'manifest' ? 'limit_manifest_bytes' : 'limit_config_bytes'
  throw new LoamError(
    'DOCUMENT_TOO_LARGE',
    `${attempted}: it has ${sizeBytes} bytes, the limit is ${maxBytes}`,
    { hint: `If the image is right, raise ${setting}.` },
  )
}

const digest = v.custom<Digest>(isDigest, 'is not a digest')
const size = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const keySet = v.nullish(v.record(v.string(), v.unknown()), () => ({}))
/** Other readers do not require it either. */
const schemaVersion = v.nullish(v.picklist([0, 2]), 2)
/** Docker has written one word where others write a list of words (moby api/types/strslice). */
const words = v.nullish(
  v.union([
    v.array(goText),
    v.pipe(
      v.string(),
      v.transform((word) => [word]),
    ),
  ]),
  () => [],
)

const PlatformSchema = goStruct({ os: goText, architecture: goText, variant: goText })
const DescriptorSchema = goStruct({
  mediaType: goText,
  digest,
  size,
  platform: PlatformSchema,
  annotations: goTextMap,
  artifactType: goText,
  urls: goTexts,
})
/** The fields that distinguish a manifest from an index. */
const ShapeSchema = goStruct({
  mediaType: goText,
  config: v.optional(v.unknown()),
  layers: v.optional(v.unknown()),
  fsLayers: v.optional(v.unknown()),
  manifests: v.optional(v.unknown()),
})
const ManifestSchema = goStruct({
  schemaVersion,
  config: DescriptorSchema,
  layers: goList(DescriptorSchema),
  annotations: goTextMap,
})
const IndexSchema = goStruct({ schemaVersion, manifests: goList(DescriptorSchema) })
const ConfigSchema = goStruct({
  architecture: goText,
  os: goText,
  variant: goText,
  created: goText,
  rootfs: goStruct({ type: v.nullish(v.picklist(['', 'layers'])), diff_ids: goList(digest) }),
  config: goStruct({
    User: goText,
    Env: goTexts,
    Entrypoint: words,
    Cmd: words,
    WorkingDir: goText,
    StopSignal: goText,
    Volumes: keySet,
    ExposedPorts: keySet,
    Labels: goTextMap,
  }),
})

/** Returns whether an entry may be an index, by its media type; for one without a type its bytes decide. */
export function mayBeIndex(mediaType: string): boolean {
  return mediaType === '' || isIndexType(mediaType)
}

/**
 * Parses a manifest or an index, and decides once which it is: by its Content-Type (or the descriptor's media type)
 * and its body together. Text that could be read as both is refused (CVE-2021-41190).
 * @throws DOCUMENT_INVALID, MEDIA_TYPE_UNSUPPORTED
 */
export function parseManifestDocument(
  bytes: Uint8Array,
  contentType: string | undefined,
  what: string,
): ImageManifest | ImageIndex {
  const value = parseStrictJson(bytes, what)
  const shape = inspectShape(value, contentType, what)
  const mediaType = agreeOnType(shape, plainType(contentType), what)
  return shape.isIndex
    ? toIndex(check(IndexSchema, value, what), mediaType)
    : toManifest(check(ManifestSchema, value, what), mediaType, what)
}

/** What the fields of a document say about it. */
interface Shape {
  readonly isIndex: boolean
  readonly mediaType: string | undefined
}

/** Returns whether JSON is a manifest or an index, also of an artifact, by its fields and then by its types. @throws DOCUMENT_INVALID */
export function inspectShape(value: unknown, contentType: string | undefined, what: string): Shape {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid(what, 'it is not an object')
  }
  const fields = check(ShapeSchema, value, what)
  const mediaType = fields.mediaType === '' ? undefined : fields.mediaType
  const isIndex = isPresent(fields.manifests)
  const isManifest = isPresent(fields.layers) || isPresent(fields.config) || isPresent(fields.fsLayers)
  if (isIndex && isManifest) throw invalid(what, 'it claims to be an index and a manifest at once')
  if (isIndex || isManifest) return { isIndex, mediaType }
  // An empty list may be written as null, or left out: then the type decides, and the name of the list.
  const type = mediaType ?? plainType(contentType) ?? ''
  if (isIndexType(type)) return { isIndex: true, mediaType }
  if (isManifestType(type)) return { isIndex: false, mediaType }
  if (fields.manifests === fields.layers) throw invalid(what, 'it is neither a manifest nor an index')
  return { isIndex: fields.manifests === null, mediaType }
}

function isPresent(value: unknown): boolean {
  return value !== undefined && value !== null
}

function agreeOnType(shape: Shape, stated: string | undefined, what: string): string {
  const outer = isVagueType(stated) ? undefined : stated
  if (outer !== undefined && shape.mediaType !== undefined && outer !== shape.mediaType) {
    throw invalid(what, `it was announced as ${outer} and says itself ${shape.mediaType}`)
  }
  const fallback = shape.isIndex ? MEDIA_TYPES.ociIndex : MEDIA_TYPES.ociManifest
  const mediaType = outer ?? shape.mediaType ?? fallback
  const [isOwn, isOther] = shape.isIndex ? [isIndexType, isManifestType] : [isManifestType, isIndexType]
  if (isOther(mediaType)) {
    throw invalid(
      what,
      `its type is ${mediaType} and its body is ${shape.isIndex ? 'an index' : 'a manifest'}`,
    )
  }
  if (!isOwn(mediaType)) {
    throw new LoamError('MEDIA_TYPE_UNSUPPORTED', `read ${what}: its type ${mediaType} is not supported`, {
      hint: mediaType.startsWith('text/html')
        ? 'The response is a web page: is this the address of a registry?'
        : undefined,
    })
  }
  return mediaType
}

/** Returns the media type of a manifest or an index, also of an artifact, which `parseManifestDocument` does not know. @throws DOCUMENT_INVALID */
export function mediaTypeOf(bytes: Uint8Array, stated: string | undefined, what: string): string {
  const given = stated === '' ? undefined : stated
  try {
    return parseManifestDocument(bytes, given, what).mediaType
  } catch (error) {
    if (!isLoamError(error, 'MEDIA_TYPE_UNSUPPORTED')) throw error
    const { mediaType } = check(ShapeSchema, parseStrictJson(bytes, what), what)
    return mediaType === '' ? (given ?? MEDIA_TYPES.ociManifest) : mediaType
  }
}

function toIndex(value: v.InferOutput<typeof IndexSchema>, mediaType: string): ImageIndex {
  const isReadable = (entry: Descriptor) => mayBeIndex(entry.mediaType) || isManifestType(entry.mediaType)
  const entries = value.manifests.map(toDescriptor)
  return {
    kind: 'index',
    mediaType,
    manifests: entries.filter((entry) => isReadable(entry)),
    others: entries.filter((entry) => !isReadable(entry)),
  }
}

function toManifest(
  value: v.InferOutput<typeof ManifestSchema>,
  mediaType: string,
  what: string,
): ImageManifest {
  const config = toDescriptor(value.config)
  if (!isConfigType(config.mediaType)) {
    throw new LoamError('MEDIA_TYPE_UNSUPPORTED', `read ${what}: its config is of type ${config.mediaType}`, {
      hint: 'This is an artifact (a chart, a signature, a model …) and not a container image.',
    })
  }
  const layers = value.layers.map(toDescriptor)
  const unsupported = layers.find(({ mediaType: type }) => type !== '' && !isLayerType(type))
  if (unsupported !== undefined) {
    throw new LoamError(
      'MEDIA_TYPE_UNSUPPORTED',
      `read ${what}: layer ${unsupported.digest} is of type ${unsupported.mediaType}`,
    )
  }
  return { kind: 'manifest', mediaType, config, layers, annotations: value.annotations }
}

function toDescriptor(value: v.InferOutput<typeof DescriptorSchema>): Descriptor {
  return {
    mediaType: value.mediaType,
    digest: value.digest,
    sizeBytes: value.size,
    platform: toPlatform(value.platform),
    annotations: value.annotations,
    ...(value.artifactType === '' ? {} : { artifactType: value.artifactType }),
    ...(value.urls.length === 0 ? {} : { urls: value.urls }),
  }
}

/** Go writes an unset struct with empty fields. */
function toPlatform({ os, architecture, variant }: Required<Platform>): Platform | undefined {
  if (os === '' && architecture === '') return undefined
  return { os, architecture, variant: variant === '' ? undefined : variant }
}

/** Parses an image config. @throws DOCUMENT_INVALID */
export function parseImageConfig(bytes: Uint8Array, what: string): ImageConfig {
  const json = parseStrictJson(bytes, what)
  if (json === null) throw invalid(what, 'it is not an object')
  const value = check(ConfigSchema, json, what)
  const { config: run } = value
  return {
    platform: {
      os: value.os,
      architecture: value.architecture,
      variant: value.variant === '' ? undefined : value.variant,
    },
    created: value.created === '' ? undefined : value.created,
    diffIds: value.rootfs.diff_ids as DiffId[],
    run: {
      user: run.User,
      env: run.Env,
      entrypoint: run.Entrypoint,
      cmd: run.Cmd,
      workingDir: run.WorkingDir,
      stopSignal: run.StopSignal === '' ? undefined : run.StopSignal,
      volumes: Object.keys(run.Volumes),
      exposedPorts: Object.keys(run.ExposedPorts),
      labels: run.Labels,
    },
  }
}

/** Refuses a config that does not belong to its manifest: it needs exactly one diffID for each layer. @throws DOCUMENT_INVALID */
export function checkLayerCount(manifest: ImageManifest, config: ImageConfig, what: string): void {
  if (manifest.layers.length !== config.diffIds.length) {
    throw invalid(
      what,
      `the manifest has ${manifest.layers.length} layers and the config ${config.diffIds.length} diffIDs`,
    )
  }
}

/** The blobs and manifests that a manifest or an index of any kind, also of an artifact, refers to. */
export interface References {
  readonly manifests: readonly Descriptor[]
  readonly blobs: readonly Descriptor[]
}

const ReferencesSchema = goStruct({
  config: v.nullish(DescriptorSchema),
  layers: goList(DescriptorSchema),
  blobs: goList(DescriptorSchema),
  manifests: goList(DescriptorSchema),
})

/** Lists the blobs and manifests that must exist before a manifest or an index does. @throws DOCUMENT_INVALID */
export function listReferences(bytes: Uint8Array, what: string): References {
  const { config, layers, blobs, manifests } = check(ReferencesSchema, parseStrictJson(bytes, what), what)
  const all = [...(config === undefined || config === null ? [] : [config]), ...layers, ...blobs]
  return { manifests: manifests.map(toDescriptor), blobs: all.map(toDescriptor) }
}

const IMAGE_LAYER = /^(?:$|application\/vnd\.(?:oci\.image\.layer|docker\.image\.rootfs)\.)/

/** Returns whether a manifest is that of an artifact: its config, or each of its layers, is none of an image. @throws DOCUMENT_INVALID */
export function isArtifact(bytes: Uint8Array, what: string): boolean {
  const { config, layers } = check(ReferencesSchema, parseStrictJson(bytes, what), what)
  if (config === undefined || config === null) return false
  // A layer of an image may be of a type that Loam cannot read: one that is encrypted.
  const isOfImage = layers.length === 0 || layers.some(({ mediaType }) => IMAGE_LAYER.test(mediaType))
  return !isConfigType(config.mediaType) || !isOfImage
}

/** Checks a value against a schema. @throws DOCUMENT_INVALID with the path of the first wrong field */
export function check<const Schema extends v.GenericSchema>(
  schema: Schema,
  value: unknown,
  what: string,
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, value, { abortEarly: true })
  if (result.success) return result.output
  const [issue] = result.issues
  const path = v.getDotPath(issue) ?? ''
  const why = issue.received === 'undefined' ? 'is missing' : issue.message
  throw invalid(what, `${path === '' ? '' : `${path}: `}${why}`)
}

function invalid(what: string, why: string): LoamError {
  return new LoamError('DOCUMENT_INVALID', `parse ${what}: ${why}`)
}
