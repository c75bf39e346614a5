import * as v from 'valibot'
import { LoamError, toLoamError } from '../errors/index.ts'
import { createAppcName, parseStrictJson } from '../image/index.ts'
import { type CredentialSource, credentialsFromConfig, helperEnvironment } from '../registry/index.ts'
import { type ImageName, type NameDefaults, parseImageName } from './image-name.ts'

/** The JSON of a protobuf omits a field, or writes null. */
const optional = <const Schema extends v.GenericSchema>(schema: Schema) => v.nullish(schema)

/** A secret, as frameworks pass it: its bytes in base64. References to secrets are not supported. */
const SecretSchema = v.object({
  type: optional(v.string()),
  value: optional(v.object({ data: v.string() })),
  reference: optional(v.object({ name: v.string() })),
})
/** Labels as an object, or in the list that Mesos's JSON has. */
const LabelsSchema = v.union([
  v.object({ labels: v.array(v.object({ key: v.string(), value: v.optional(v.string(), '') })) }),
  v.record(v.string(), v.string()),
])
const cached = optional(v.boolean())
const type = <const Word extends string>(word: Word) => v.pipe(v.string(), v.toLowerCase(), v.literal(word))

const IMAGE_FORM = 'it has another form than { type, docker | appc | oci }'

/** The Image of Mesos's framework API, and the same for OCI layouts. */
export const ImageRequestSchema = v.union(
  [
    v.object({
      type: type('docker'),
      docker: v.object({ name: v.string(), config: optional(SecretSchema) }),
      cached,
    }),
    v.object({
      type: type('appc'),
      appc: v.object({ name: v.string(), id: optional(v.string()), labels: v.nullish(LabelsSchema, {}) }),
      cached,
    }),
    v.object({ type: type('oci'), oci: v.object({ name: v.string() }), cached }),
  ],
  IMAGE_FORM,
)

/** A request for a Docker or OCI image by its reference. */
export interface DockerImageRequest {
  /** `docker`, in upper or lower case. */
  readonly type: string
  /** The image. */
  readonly docker: {
    /** Reference: `debian:12`. */
    readonly name: string
    /** Credentials for this request only: the text of a Docker config.json. */
    readonly config?: RequestSecret | null | undefined
  }
  /** False: ask the registry again. Omitted: use the image in the store, if there is one. */
  readonly cached?: boolean | null | undefined
}

/** A secret of a request. Only its value is used; a reference is refused with CREDENTIALS_INVALID. */
export interface RequestSecret {
  /** `VALUE`. */
  readonly type?: string | null | undefined
  /** The secret itself. */
  readonly value?:
    | {
        /** Its bytes in base64. */
        readonly data: string
      }
    | null
    | undefined
  /** Where a secret is kept. */
  readonly reference?:
    | {
        /** Its name. */
        readonly name: string
      }
    | null
    | undefined
}

/** A request for an Appc image by its name, labels and id. */
export interface AppcImageRequest {
  /** `appc`, in upper or lower case. */
  readonly type: string
  /** The image. */
  readonly appc: {
    /** Name: `example.com/worker`. */
    readonly name: string
    /** `sha512-…`. */
    readonly id?: string | null | undefined
    /** Labels, `version`, `os` and `arch` among them: an object, or the list of Mesos's JSON. */
    readonly labels?: Readonly<Record<string, string>> | RequestLabels | null | undefined
  }
  /** False: ask the image's location again. Omitted: use the image in the store, if there is one. */
  readonly cached?: boolean | null | undefined
}

/** Labels as Mesos's JSON has them. */
export interface RequestLabels {
  /** In any order. */
  readonly labels: readonly {
    /** Name of the label. */
    readonly key: string
    /** Its value; empty when it is left out. */
    readonly value?: string | undefined
  }[]
}

/** A request for an image of an OCI layout. */
export interface OciImageRequest {
  /** `oci`, in upper or lower case. */
  readonly type: string
  /** The image. */
  readonly oci: {
    /** Path of the layout, with `:tag`. */
    readonly name: string
  }
  /** False: read the layout again. Omitted: use the image in the store, if there is one. */
  readonly cached?: boolean | null | undefined
}

/** A request for an image as frameworks send it: the Image of Mesos's framework API, and the same for OCI layouts. */
export type ImageRequest = DockerImageRequest | AppcImageRequest | OciImageRequest

/** A parsed request: the name and the options. */
export interface ParsedRequest<Name = ImageName> {
  readonly name: Name
  /** Undefined when the request does not say. */
  readonly cached: boolean | undefined
  readonly credentials: CredentialSource | undefined
}

/** Image types that a bare name may have. */
export const NAMED_TYPES = ['docker', 'appc', 'oci'] as const
/** Type of image that a bare name is resolved as. */
export type NamedType = (typeof NAMED_TYPES)[number]

/** Reads a request, or a name as a user writes it. @throws REFERENCE_INVALID, SOURCE_INVALID, CREDENTIALS_INVALID, USAGE */
export function parseImageRequest(
  image: string | ImageRequest,
  defaults: NameDefaults,
  namedType: NamedType = 'docker',
): ParsedRequest {
  if (typeof image === 'string' && image.startsWith('{')) {
    return parseImageRequest(parseJson(image), defaults, namedType)
  }
  if (typeof image === 'string') {
    const name = parseImageName(qualify(image, namedType), defaults)
    return { name, cached: undefined, credentials: undefined }
  }
  const parsed = v.safeParse(ImageRequestSchema, image)
  if (!parsed.success) {
    throw new LoamError('USAGE', `read image request: ${IMAGE_FORM}`)
  }
  const request = parsed.output
  const isCached = request.cached ?? undefined
  if ('docker' in request) {
    const { name, config } = request.docker
    const credentials =
      config === undefined || config === null
        ? undefined
        : credentialsFromConfig(
            resolveSecret(config),
            `config of ${name}`,
            helperEnvironment(defaults.env ?? process.env),
          )
    return { name: parseImageName(`docker://${name}`, defaults), cached: isCached, credentials }
  }
  if ('appc' in request) {
    const { name, id, labels } = request.appc
    const given = Array.isArray(labels['labels'])
      ? Object.fromEntries(labels['labels'].map(({ key, value }) => [key, value]))
      : (labels as Record<string, string>)
    const appc = createAppcName({ name, id: id ?? undefined, labels: given }, defaults.platform)
    return { name: { transport: 'appc', appc }, cached: isCached, credentials: undefined }
  }
  const name = parseImageName(qualify(request.oci.name, 'oci'), defaults)
  return { name, cached: isCached, credentials: undefined }
}

/** Parses a request of a framework: it begins with a brace, as no image name does. */
function parseJson(text: string): ImageRequest {
  try {
    // The caller checks it like any request.
    return parseStrictJson(Buffer.from(text), 'image request') as ImageRequest
  } catch (error) {
    const { message } = toLoamError(error, 'read image request')
    throw new LoamError('USAGE', message, {
      cause: error,
      hint: 'Write {"type": "DOCKER", "docker": {"name": "debian:12"}}.',
    })
  }
}

/** Adds the transport to a bare name, since a bare Appc name looks like a reference. */
function qualify(name: string, namedType: NamedType): string {
  if (namedType === 'appc' && !/^(?:appc:\/\/|aci:)/.test(name)) return `appc://${name}`
  if (namedType === 'oci' && !/^oci(?:-archive)?:/.test(name)) return `oci:${name}`
  return name
}

function resolveSecret({ value, reference }: v.InferOutput<typeof SecretSchema>): string {
  if (value !== undefined && value !== null) return Buffer.from(value.data, 'base64').toString('utf8')
  throw new LoamError(
    'CREDENTIALS_INVALID',
    `read secret ${reference?.name ?? ''}: it is given by reference, which Loam does not resolve`,
    { hint: 'Give its value: { "type": "VALUE", "value": { "data": "<base64>" } }' },
  )
}
