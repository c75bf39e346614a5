import * as v from 'valibot'
import { LoamError } from '../errors/index.ts'
import { type DiffId, type Digest, isDigest } from './digest.ts'
import { parseStrictJson } from './json.ts'
import { isLayerMediaType, MEDIA_TYPES } from './media-types.ts'
import type { Platform } from './platform.ts'

/** Names a blob: its type, digest and size in bytes (OCI image-spec descriptor.md). */
export interface Descriptor {
  readonly mediaType: string
  readonly digest: Digest
  readonly sizeBytes: number
  readonly platform?: Platform | undefined
  readonly annotations?: Readonly<Record<string, string>> | undefined
}

/** One image for one platform: OCI manifest or Docker schema 2. Layers are in order, base first; one may come twice. */
export interface ImageManifest {
  readonly kind: 'manifest'
  readonly mediaType: string
  readonly config: Descriptor
  readonly layers: readonly Descriptor[]
  readonly annotations: Readonly<Record<string, string>>
}

/** Images for several platforms: OCI index or Docker manifest list. Entries of types unknown here are left out. */
export interface ImageIndex {
  readonly kind: 'index'
  readonly mediaType: string
  readonly manifests: readonly Descriptor[]
}

/** What an image says about the process to run and the layers below it (OCI image-spec config.md). */
export interface ImageConfig {
  readonly platform: Platform
  readonly created: string | undefined
  readonly diffIds: readonly DiffId[]
  readonly run: RunConfig
}

/** The `config` object: defaults for a process. Image text; never a path or an option of the host. */
export interface RunConfig {
  readonly user: string
  readonly env: readonly string[]
  readonly entrypoint: readonly string[]
  readonly cmd: readonly string[]
  readonly workingDir: string
  readonly stopSignal: string | undefined
  readonly volumes: readonly string[]
  readonly exposedPorts: readonly string[]
  readonly labels: Readonly<Record<string, string>>
}

/** Bounds on documents in bytes; a manifest of 4 MiB is what registries themselves allow. */
export const DOCUMENT_LIMITS = { manifestBytes: 4 << 20, configBytes: 8 << 20 } as const

const digest = v.custom<Digest>(isDigest, 'is no digest')
const size = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
// Go writes null for an empty map or list.
const texts = v.nullish(v.array(v.string()))
const textMap = v.nullish(v.record(v.string(), v.string()))
const keySet = v.nullish(v.record(v.string(), v.unknown()))

const PlatformSchema = v.object({
  os: v.string(),
  architecture: v.string(),
  variant: v.optional(v.string()),
})
const DescriptorSchema = v.object({
  mediaType: v.string(),
  digest,
  size,
  platform: v.nullish(PlatformSchema),
  annotations: textMap,
})
const ManifestSchema = v.object({
  schemaVersion: v.literal(2),
  mediaType: v.optional(v.string()),
  config: DescriptorSchema,
  layers: v.array(DescriptorSchema),
  annotations: textMap,
})
const IndexSchema = v.object({
  schemaVersion: v.literal(2),
  mediaType: v.optional(v.string()),
  manifests: v.array(DescriptorSchema),
})
const ConfigSchema = v.object({
  architecture: v.optional(v.string(), ''),
  os: v.optional(v.string(), ''),
  variant: v.optional(v.string()),
  created: v.nullish(v.string()),
  rootfs: v.object({ type: v.literal('layers'), diff_ids: v.nullish(v.array(digest)) }),
  config: v.nullish(
    v.object({
      User: v.nullish(v.string()),
      Env: texts,
      Entrypoint: texts,
      Cmd: texts,
      WorkingDir: v.nullish(v.string()),
      StopSignal: v.nullish(v.string()),
      Volumes: keySet,
      ExposedPorts: keySet,
      Labels: textMap,
    }),
  ),
})

const INDEX_TYPES: readonly string[] = [MEDIA_TYPES.ociIndex, MEDIA_TYPES.dockerList]
const MANIFEST_TYPES: readonly string[] = [MEDIA_TYPES.ociManifest, MEDIA_TYPES.dockerManifest]
const CONFIG_TYPES: readonly string[] = [MEDIA_TYPES.ociConfig, MEDIA_TYPES.dockerConfig]

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
  const stated = contentType?.split(';')[0]?.trim().toLowerCase()
  const value = parseStrictJson(bytes, what)
  const shape = inspectShape(value, what)
  const mediaType = agreeOnType(shape, stated, what)
  return shape.isIndex
    ? toIndex(check(IndexSchema, value, what), mediaType)
    : toManifest(check(ManifestSchema, value, what), mediaType, what)
}

interface Shape {
  readonly isIndex: boolean
  readonly mediaType: string | undefined
}

function inspectShape(value: unknown, what: string): Shape {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid(what, 'it is not an object')
  }
  const has = (key: string) => Object.hasOwn(value, key)
  if (has('manifests') && (has('layers') || has('config') || has('fsLayers'))) {
    throw invalid(what, 'it claims to be an index and a manifest at once')
  }
  if (!has('manifests') && !has('layers')) throw invalid(what, 'it is neither a manifest nor an index')
  const mediaType = 'mediaType' in value ? value.mediaType : undefined
  return {
    isIndex: has('manifests'),
    mediaType: typeof mediaType === 'string' ? mediaType : undefined,
  }
}

function agreeOnType(shape: Shape, stated: string | undefined, what: string): string {
  // Static web servers and some proxies say no more than these; the body then decides alone.
  const isVague = stated === undefined || /^(?:application\/(?:json|octet-stream)|text\/plain)$/.test(stated)
  const outer = isVague ? undefined : stated
  if (outer !== undefined && shape.mediaType !== undefined && outer !== shape.mediaType) {
    throw invalid(what, `it was announced as ${outer} and says itself ${shape.mediaType}`)
  }
  const fallback = shape.isIndex ? MEDIA_TYPES.ociIndex : MEDIA_TYPES.ociManifest
  const mediaType = outer ?? shape.mediaType ?? fallback
  const own = shape.isIndex ? INDEX_TYPES : MANIFEST_TYPES
  const other = shape.isIndex ? MANIFEST_TYPES : INDEX_TYPES
  if (other.includes(mediaType)) {
    throw invalid(
      what,
      `its type is ${mediaType} and its body is ${shape.isIndex ? 'an index' : 'a manifest'}`,
    )
  }
  if (!own.includes(mediaType)) {
    throw new LoamError('MEDIA_TYPE_UNSUPPORTED', `read ${what}: its type ${mediaType} is not supported`, {
      hint: mediaType.startsWith('text/html')
        ? 'The answer is a web page: is this the address of a registry?'
        : undefined,
    })
  }
  return mediaType
}

function toIndex(value: v.InferOutput<typeof IndexSchema>, mediaType: string): ImageIndex {
  const readable = [...INDEX_TYPES, ...MANIFEST_TYPES]
  const manifests = value.manifests.map(toDescriptor).filter((entry) => readable.includes(entry.mediaType))
  return { kind: 'index', mediaType, manifests }
}

function toManifest(
  value: v.InferOutput<typeof ManifestSchema>,
  mediaType: string,
  what: string,
): ImageManifest {
  const config = toDescriptor(value.config)
  if (!CONFIG_TYPES.includes(config.mediaType)) {
    throw new LoamError('MEDIA_TYPE_UNSUPPORTED', `read ${what}: its config is of type ${config.mediaType}`, {
      hint: 'This is an artifact (a chart, a signature, a model …) and not a container image.',
    })
  }
  const layers = value.layers.map(toDescriptor)
  const odd = layers.find((layer) => !isLayerMediaType(layer.mediaType))
  if (odd !== undefined) {
    throw new LoamError(
      'MEDIA_TYPE_UNSUPPORTED',
      `read ${what}: layer ${odd.digest} is of type ${odd.mediaType}`,
    )
  }
  return { kind: 'manifest', mediaType, config, layers, annotations: value.annotations ?? {} }
}

function toDescriptor(value: v.InferOutput<typeof DescriptorSchema>): Descriptor {
  return {
    mediaType: value.mediaType,
    digest: value.digest,
    sizeBytes: value.size,
    platform: value.platform ?? undefined,
    annotations: value.annotations ?? undefined,
  }
}

/** Parses an image config. @throws DOCUMENT_INVALID */
export function parseImageConfig(bytes: Uint8Array, what: string): ImageConfig {
  const value = check(ConfigSchema, parseStrictJson(bytes, what), what)
  const run = value.config ?? {}
  return {
    platform: { os: value.os, architecture: value.architecture, variant: value.variant },
    created: value.created ?? undefined,
    diffIds: (value.rootfs.diff_ids ?? []) as DiffId[],
    run: {
      user: run.User ?? '',
      env: run.Env ?? [],
      entrypoint: run.Entrypoint ?? [],
      cmd: run.Cmd ?? [],
      workingDir: run.WorkingDir ?? '',
      stopSignal: run.StopSignal ?? undefined,
      volumes: Object.keys(run.Volumes ?? {}),
      exposedPorts: Object.keys(run.ExposedPorts ?? {}),
      labels: run.Labels ?? {},
    },
  }
}

/** Refuses a config that does not belong to its manifest: one diffID for each layer, no more and no less. @throws DOCUMENT_INVALID */
export function checkLayerCount(manifest: ImageManifest, config: ImageConfig, what: string): void {
  if (manifest.layers.length !== config.diffIds.length) {
    throw invalid(
      what,
      `the manifest has ${manifest.layers.length} layers and the config ${config.diffIds.length} diffIDs`,
    )
  }
}

/** Holds a value against a schema. @throws DOCUMENT_INVALID with the path of the first wrong field */
export function check<const Schema extends v.GenericSchema>(
  schema: Schema,
  value: unknown,
  what: string,
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, value, { abortEarly: true })
  if (result.success) return result.output
  const [issue] = result.issues
  const path = v.getDotPath(issue) ?? ''
  throw invalid(what, `${path === '' ? '' : `${path}: `}${issue.message}`)
}

function invalid(what: string, why: string): LoamError {
  return new LoamError('DOCUMENT_INVALID', `parse ${what}: ${why}`)
}
