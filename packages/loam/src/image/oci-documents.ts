// The documents of an image with their fields by name, for programs. Loam itself reads only what it needs of them (documents.ts).
import * as v from 'valibot'
import { check } from './documents.ts'
import { parseStrictJson } from './json.ts'

/** A descriptor as in a document (OCI image-spec descriptor.md); it may have further fields. */
export interface OciDescriptor {
  /** Media type of the content. */
  readonly mediaType: string
  /** Digest of the content. */
  readonly digest: string
  /** Size of the content in bytes. */
  readonly size: number
  /** Other locations of the content. */
  readonly urls?: readonly string[] | null | undefined
  /** Annotations. */
  readonly annotations?: Readonly<Record<string, string>> | null | undefined
  /** Type of the artifact that it refers to. */
  readonly artifactType?: string | null | undefined
}

/** The manifest of an image (OCI image-spec manifest.md, Docker schema 2); it may have further fields. */
export interface OciManifest {
  /** 2. */
  readonly schemaVersion: number
  /** Media type of the manifest. */
  readonly mediaType?: string | null | undefined
  /** Type of an artifact that is not an image. */
  readonly artifactType?: string | null | undefined
  /** The config. */
  readonly config: OciDescriptor
  /** The layers, base first. */
  readonly layers: readonly OciDescriptor[]
  /** The manifest that it is about. */
  readonly subject?: OciDescriptor | null | undefined
  /** Annotations. */
  readonly annotations?: Readonly<Record<string, string>> | null | undefined
}

/** The defaults for a process, in the config of an image. */
export interface OciProcessConfig {
  /** `name`, `uid`, `name:group` or `uid:gid`. */
  readonly User?: string | null | undefined
  /** Ports, as `80/tcp`, as names. */
  readonly ExposedPorts?: Readonly<Record<string, unknown>> | null | undefined
  /** `KEY=VALUE`. */
  readonly Env?: readonly string[] | null | undefined
  /** The program with its first arguments. */
  readonly Entrypoint?: readonly string[] | null | undefined
  /** Further arguments, or the program. */
  readonly Cmd?: readonly string[] | null | undefined
  /** Paths of volumes, as names. */
  readonly Volumes?: Readonly<Record<string, unknown>> | null | undefined
  /** Working directory. */
  readonly WorkingDir?: string | null | undefined
  /** Labels. */
  readonly Labels?: Readonly<Record<string, string>> | null | undefined
  /** The signal that stops it. */
  readonly StopSignal?: string | null | undefined
}

/** A step of the history of an image, in its config. */
export interface OciHistoryStep {
  /** When, as in RFC 3339. */
  readonly created?: string | null | undefined
  /** The command. */
  readonly created_by?: string | null | undefined
  /** Who. */
  readonly author?: string | null | undefined
  /** A remark. */
  readonly comment?: string | null | undefined
  /** Whether it made no layer. */
  readonly empty_layer?: boolean | null | undefined
}

/** The config of an image (OCI image-spec config.md); it may have further fields. */
export interface OciImageConfig {
  /** When it was made, as in RFC 3339. */
  readonly created?: string | null | undefined
  /** Who made it. */
  readonly author?: string | null | undefined
  /** Architecture in Go's words. */
  readonly architecture?: string | null | undefined
  /** Variant of the architecture. */
  readonly variant?: string | null | undefined
  /** Operating system in Go's words. */
  readonly os?: string | null | undefined
  /** The defaults for a process. */
  readonly config?: OciProcessConfig | null | undefined
  /** The layers. */
  readonly rootfs: {
    /** `layers`. */
    readonly type?: string | null | undefined
    /** Digests of the uncompressed layers, base first. */
    readonly diff_ids: readonly string[]
  }
  /** How it was made, the first step first. */
  readonly history?: readonly OciHistoryStep[] | null | undefined
}
/** A null of Go's JSON is a field that is not there. */
const absent = <const Schema extends v.GenericSchema>(schema: Schema) => v.optional(v.nullable(schema))
const strings = v.array(v.string())
const texts = v.record(v.string(), v.string())
const names = v.record(v.string(), v.unknown())

const DescriptorSchema = v.looseObject({
  mediaType: v.string(),
  digest: v.string(),
  size: v.number(),
  urls: absent(strings),
  annotations: absent(texts),
  artifactType: absent(v.string()),
})

const ManifestSchema = v.looseObject({
  schemaVersion: v.number(),
  mediaType: absent(v.string()),
  artifactType: absent(v.string()),
  config: DescriptorSchema,
  layers: v.array(DescriptorSchema),
  subject: absent(DescriptorSchema),
  annotations: absent(texts),
})

const ProcessSchema = v.looseObject({
  User: absent(v.string()),
  ExposedPorts: absent(names),
  Env: absent(strings),
  Entrypoint: absent(strings),
  Cmd: absent(strings),
  Volumes: absent(names),
  WorkingDir: absent(v.string()),
  Labels: absent(texts),
  StopSignal: absent(v.string()),
})

const ConfigSchema = v.looseObject({
  created: absent(v.string()),
  author: absent(v.string()),
  architecture: absent(v.string()),
  variant: absent(v.string()),
  os: absent(v.string()),
  config: absent(ProcessSchema),
  rootfs: v.looseObject({ type: absent(v.string()), diff_ids: strings }),
  history: absent(
    v.array(
      v.looseObject({
        created: absent(v.string()),
        created_by: absent(v.string()),
        author: absent(v.string()),
        comment: absent(v.string()),
        empty_layer: absent(v.boolean()),
      }),
    ),
  ),
})

/** Returns a manifest with its fields by name, from JSON text or from what JSON.parse gives. @throws DOCUMENT_INVALID, also for an index and for schema 1 */
export function parseOciManifest(document: unknown): OciManifest {
  return check(ManifestSchema, parsed(document, 'manifest'), 'manifest')
}

/** Returns an image config with its fields by name, from JSON text or from what JSON.parse gives. @throws DOCUMENT_INVALID */
export function parseOciImageConfig(document: unknown): OciImageConfig {
  return check(ConfigSchema, parsed(document, 'config'), 'config')
}

function parsed(document: unknown, what: string): unknown {
  return typeof document === 'string' ? parseStrictJson(Buffer.from(document), what) : document
}
