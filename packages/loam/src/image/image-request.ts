import * as v from 'valibot'

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

export const IMAGE_FORM = 'it has another form than { type, docker | appc | oci }'

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

/** Image types that a bare name may have. */
export const NAMED_TYPES = ['docker', 'appc', 'oci'] as const
/** Type of image that a bare name is resolved as. */
export type NamedType = (typeof NAMED_TYPES)[number]
