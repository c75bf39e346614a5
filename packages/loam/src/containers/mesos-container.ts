import { isAbsolute, normalize } from 'node:path'
import * as v from 'valibot'
import { LoamError, toLoamError } from '../errors/index.ts'
import { check, parseStrictJson } from '../image/index.ts'
import { type ImageRequest, ImageRequestSchema } from '../sources/index.ts'
import type { HostMount, ImageVolume } from './requests.ts'

/** Protobuf's JSON omits empty fields, or writes them as null, {} or []. */
const optional = <const Schema extends v.GenericSchema>(schema: Schema) => v.nullish(schema)
const absent = (why: string) => v.custom<undefined | null>(isEmpty, why)
const ANOTHER = 'has to be set up by a Mesos agent'

const VolumeSchema = v.strictObject({
  mode: v.picklist(['RW', 'RO'], 'is neither RW nor RO'),
  container_path: v.pipe(v.string(), v.nonEmpty('is required')),
  host_path: optional(v.string()),
  image: optional(ImageRequestSchema),
  source: optional(
    v.strictObject({
      type: v.literal('HOST_PATH', 'is not HOST_PATH, the only type that Loam can mount'),
      host_path: v.strictObject({ path: v.string(), mount_propagation: optional(absent(ANOTHER)) }),
      docker_volume: optional(absent(ANOTHER)),
      sandbox_path: optional(absent(ANOTHER)),
      secret: optional(absent(ANOTHER)),
      csi_volume: optional(absent(ANOTHER)),
    }),
  ),
})
const ContainerSchema = v.strictObject({
  type: v.literal('MESOS', 'is not MESOS: images of the Mesos containerizer are in `mesos.image`'),
  mesos: optional(v.strictObject({ image: optional(ImageRequestSchema) })),
  volumes: optional(v.array(VolumeSchema)),
  hostname: optional(v.string()),
  docker: optional(absent('is for the Docker containerizer')),
  network_infos: optional(absent(ANOTHER)),
  linux_info: optional(absent(ANOTHER)),
  rlimit_info: optional(absent(ANOTHER)),
  tty_info: optional(absent(ANOTHER)),
})

/** ContainerInfo of Mesos's framework API (mesos.proto): the fields that concern file systems. */
export interface MesosContainerInfo {
  /** Always `MESOS`: Loam does not create containers of the Docker containerizer. */
  readonly type: 'MESOS'
  /** Options for the Mesos containerizer. */
  readonly mesos?:
    | {
        /** Image of the root filesystem. */
        readonly image?: ImageRequest | null | undefined
      }
    | null
    | undefined
  /** The container's volumes. */
  readonly volumes?: readonly MesosVolume[] | null | undefined
  /** The container's host name. */
  readonly hostname?: string | null | undefined
}

/** Volume of Mesos's framework API: an image, or a path of this machine. */
export interface MesosVolume {
  /** Read-write or read-only. */
  readonly mode: 'RW' | 'RO'
  /** Absolute, or below the sandbox folder. */
  readonly container_path: string
  /** Path of this machine; instead of `image` and `source`. */
  readonly host_path?: string | null | undefined
  /** Image to mount; instead of a path. */
  readonly image?: ImageRequest | null | undefined
  /** Path of this machine, in the newer form. */
  readonly source?:
    | {
        /** The only type that Loam can mount. */
        readonly type: 'HOST_PATH'
        /** The path on this machine. */
        readonly host_path: {
          /** Absolute path. */
          readonly path: string
        }
      }
    | null
    | undefined
}

/** The parts of a container, as parameters of `provision`, `provisionVolumes` and `run`. */
export interface MesosContainer {
  /** A request, or a name as a user writes it; undefined for a container without its own root filesystem. */
  readonly image: string | ImageRequest | undefined
  /** Image volumes of the container. */
  readonly volumes: readonly ImageVolume[]
  /** Paths of this machine to mount in the container. */
  readonly hostMounts: readonly HostMount[]
  /** The requested host name. */
  readonly hostname: string | undefined
}

/** Reads a ContainerInfo, or its JSON. @throws USAGE with the field that is invalid or that Loam does not support */
export function parseMesosContainer(container: string | MesosContainerInfo): MesosContainer {
  try {
    const value =
      typeof container === 'string' ? parseStrictJson(Buffer.from(container), 'ContainerInfo') : container
    const { mesos, volumes, hostname } = check(ContainerSchema, value, 'ContainerInfo')
    const mounts = (volumes ?? []).map(toMount)
    return {
      image: mesos?.image ?? undefined,
      volumes: mounts.filter((mount) => 'image' in mount),
      hostMounts: mounts.filter((mount) => 'hostPath' in mount),
      hostname: hostname ?? undefined,
    }
  } catch (error) {
    const { code, message } = toLoamError(error, 'read ContainerInfo')
    if (code !== 'DOCUMENT_INVALID') throw error
    throw new LoamError('USAGE', message, {
      cause: error,
      hint: 'Write {"type": "MESOS", "mesos": {"image": {…}}, "volumes": [{"mode": "RO", "container_path": "data", "image": {…}}]}.',
    })
  }
}

function toMount(
  { mode, container_path: target, image, host_path: plain, source }: v.InferOutput<typeof VolumeSchema>,
  index: number,
): ImageVolume | HostMount {
  const isReadOnly = mode === 'RO'
  const hostPath = plain ?? source?.host_path.path ?? undefined
  const given = [image, plain, source].filter((place) => place !== undefined && place !== null)
  if (given.length !== 1)
    throw invalid(index, `has ${given.length} of host_path, image and source, exactly one is required`)
  if (image !== undefined && image !== null) return { image, target, isReadOnly }
  if (hostPath !== undefined && isAbsolute(hostPath))
    return { hostPath: normalize(hostPath), target, isReadOnly }
  throw invalid(index, 'has a relative host_path, which only a Mesos agent can resolve')
}

function invalid(index: number, why: string): LoamError {
  return new LoamError('DOCUMENT_INVALID', `parse ContainerInfo: volumes.${index}: ${why}`)
}

function isEmpty(value: unknown): boolean {
  if (value === null || value === undefined) return true
  return typeof value === 'object' && Object.keys(value).length === 0
}
