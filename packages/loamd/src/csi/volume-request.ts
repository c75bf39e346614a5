import { createHash } from 'node:crypto'
import { posix } from 'node:path'
import {
  type CredentialSource,
  type ImageReference,
  LoamError,
  parsePlatform,
  parseReference,
  type Platform,
} from 'loamfs'
import type { PodTokens } from 'loamfs/internal'
import {
  type NodePublishVolumeRequest,
  type VolumeCapability,
  VolumeCapability_AccessMode_Mode as Mode,
} from '../../gen/csi_pb.js'
import { podTokensOf } from './pod-tokens.ts'
import { credentialsOfSecrets } from './secrets.ts'

/** When the registry is asked for the image, as in Kubernetes. */
export const PULL_POLICIES = ['Always', 'IfNotPresent', 'Never'] as const
export type PullPolicy = (typeof PULL_POLICIES)[number]

/** The attributes of a volume. Those with a slash are the orchestrator's own. */
const ATTRIBUTES = ['image', 'pullPolicy', 'pullAlways', 'readOnly', 'subPath', 'platform', 'size'] as const
const EPHEMERAL = 'csi.storage.k8s.io/ephemeral'
const READERS: readonly Mode[] = [Mode.SINGLE_NODE_READER_ONLY, Mode.MULTI_NODE_READER_ONLY]
/** Options that each volume has anyway. */
const FLAGS = ['ro', 'rw', 'nosuid', 'nodev', 'relatime', 'defaults']

const UNITS: ReadonlyMap<string, number> = new Map(
  Object.entries({
    '': 1,
    k: 1e3,
    M: 1e6,
    G: 1e9,
    T: 1e12,
    Ki: 2 ** 10,
    Mi: 2 ** 20,
    Gi: 2 ** 30,
    Ti: 2 ** 40,
  }),
)
/** The least that Loam can limit a writable layer to. */
const MIN_SIZE_BYTES = 2 << 20

/** What is to be mounted. */
export interface VolumeContent {
  /** Reference of an image in a registry. */
  readonly image: string
  readonly platform: Platform | undefined
  /** Directory of the image, without a slash at its start. */
  readonly subPath: string | undefined
  readonly isReadOnly: boolean
  /** The bytes that may be written to it; undefined for as many as the disk has. */
  readonly sizeBytes: number | undefined
  readonly pullPolicy: PullPolicy
}

/** What only a pull needs. */
export interface PullRights {
  /** Those of the volume's secrets. */
  readonly credentials: CredentialSource | undefined
  /** Those that the kubelet sends for the volume's pod. */
  readonly podTokens: PodTokens | undefined
}

/** A checked request to publish a volume. */
export interface VolumeRequest extends VolumeContent {
  readonly volumeId: string
  /** Parses the secrets and tokens: they may change while the volume is published, and then do not matter. @throws CREDENTIALS_INVALID */
  readonly parseRights: () => PullRights
}

/** Reads a request, except its target. @throws USAGE, REFERENCE_INVALID, PLATFORM_INVALID */
export function parseVolumeRequest(request: NodePublishVolumeRequest): VolumeRequest {
  const { volumeId, volumeCapability, volumeContext, readonly, secrets } = request
  if (volumeId === '') throw invalid('volume_id', 'it is missing')
  const capability = requireCapability(volumeCapability)
  const isEphemeral = volumeContext[EPHEMERAL] === 'true'
  const attributes = { ...volumeContext }
  // In a persistent volume of other drivers of images the handle is the image.
  if (!isEphemeral) attributes['image'] ??= volumeId
  const content = parseVolumeContent(attributes)
  const isReadOnly = content.isReadOnly || readonly || isReader(capability)
  if (!isEphemeral && !isReadOnly) {
    throw invalid('volume_capability', 'a persistent volume of an image is read-only', {
      hint: 'Use accessModes: [ReadOnlyMany], or the attribute readOnly: "true". Ephemeral volumes are writable.',
    })
  }
  if (isReadOnly && content.sizeBytes !== undefined) throw invalid('size', 'the volume is read-only')
  return {
    ...content,
    isReadOnly,
    volumeId,
    parseRights: () => ({
      credentials: credentialsOfSecrets(secrets),
      podTokens: podTokensOf(volumeContext, secrets),
    }),
  }
}

/** Reads the attributes of a volume. @throws as `parseVolumeRequest` */
export function parseVolumeContent(attributes: Readonly<Record<string, string>>): VolumeContent {
  const unknown = Object.keys(attributes).find((name) => !name.includes('/') && !isAttribute(name))
  if (unknown !== undefined)
    throw invalid(unknown, 'no such attribute', { hint: `The attributes are ${ATTRIBUTES.join(', ')}.` })
  const { image, platform, size } = attributes
  if (image === undefined || image === '') throw invalid('image', 'it is missing')
  // Names of files and parts of digests of the store's images are not for pods.
  const reference = parseReference(image)
  return {
    image,
    platform: platform === undefined ? undefined : parsePlatform(platform),
    subPath: parseSubPath(attributes['subPath']),
    isReadOnly: flag(attributes, 'readOnly') ?? false,
    sizeBytes: size === undefined ? undefined : parseQuantity(size),
    pullPolicy: pullPolicyOf(attributes, reference),
  }
}

/** Checks how a volume is to be used. @throws USAGE for a block device, and for options that a volume does not have */
export function requireCapability(capability: VolumeCapability | undefined): VolumeCapability {
  const { accessType, accessMode } = capability ?? {}
  if (capability === undefined || accessType?.case === undefined)
    throw invalid('volume_capability', 'it is missing')
  if (accessType.case === 'block') throw invalid('volume_capability', 'an image is not a block device')
  if ((accessMode?.mode ?? Mode.UNKNOWN) === Mode.UNKNOWN)
    throw invalid('volume_capability', 'it has no access mode')
  const { fsType, mountFlags, volumeMountGroup } = accessType.value
  if (fsType !== '')
    throw invalid('fs_type', 'the image decides the file system', { hint: 'Leave fsType out.' })
  const unknown = mountFlags.find((option) => !FLAGS.includes(option))
  // An option may be a secret.
  if (unknown !== undefined)
    throw invalid('mount_flags', `only these are supported: ${FLAGS.join(', ')}`, {
      hint: 'Leave mountOptions out.',
    })
  if (volumeMountGroup !== '') throw invalid('volume_mount_group', 'it is not supported')
  return capability
}

/** Identifies what is published: the same volume, from the same image and in the same mode. When the image is fetched, and with which secrets, does not count. */
export function digestOf(request: VolumeRequest): string {
  const { volumeId, image, platform, subPath, isReadOnly, sizeBytes } = request
  return shortDigest(JSON.stringify([volumeId, image, platform, subPath, isReadOnly, sizeBytes]))
}

/** A digest that fits the ID of a container. */
export function shortDigest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32)
}

function isReader({ accessMode, accessType }: VolumeCapability): boolean {
  const isAsked = accessType.case === 'mount' && accessType.value.mountFlags.includes('ro')
  return isAsked || (accessMode !== undefined && READERS.includes(accessMode.mode))
}

function pullPolicyOf(attributes: Readonly<Record<string, string>>, reference: ImageReference): PullPolicy {
  const { pullPolicy } = attributes
  const always = flag(attributes, 'pullAlways')
  if (pullPolicy !== undefined && always !== undefined)
    throw invalid('pullAlways', 'it is another way to write pullPolicy, which is there, too')
  if (always !== undefined) return always ? 'Always' : 'IfNotPresent'
  if (pullPolicy === undefined) return defaultPolicy(reference)
  const found = PULL_POLICIES.find((policy) => policy === pullPolicy)
  if (found === undefined) throw invalid('pullPolicy', `it is not one of ${PULL_POLICIES.join(', ')}`)
  return found
}

/** As for containers and image volumes in Kubernetes: what `latest` refers to changes. */
function defaultPolicy({ tag, digest }: ImageReference): PullPolicy {
  return digest === undefined && tag === 'latest' ? 'Always' : 'IfNotPresent'
}

/** A quantity of Kubernetes, as far as a size needs it: `512Mi`, `1G`, `1073741824`. */
function parseQuantity(text: string): number {
  const [, digits, unit = ''] = /^(\d+)(\w*)$/.exec(text) ?? []
  const factor = UNITS.get(unit)
  const bytes = Number(digits) * (factor ?? Number.NaN)
  if (!Number.isSafeInteger(bytes)) throw invalid('size', 'it is not a quantity, for example 512Mi')
  if (bytes < MIN_SIZE_BYTES) throw invalid('size', 'at least 2Mi are needed')
  return bytes
}

/** The same rule as for `subPath` of a volume mount in Kubernetes. */
function parseSubPath(text: string | undefined): string | undefined {
  if (text === undefined || text === '') return undefined
  if (posix.isAbsolute(text) || text.includes('\0') || text.split('/').includes('..'))
    throw invalid('subPath', 'it is not a relative path without `..`')
  const path = posix.normalize(text).replace(/\/$/, '')
  return path === '.' ? undefined : path
}

function flag(
  attributes: Readonly<Record<string, string>>,
  name: (typeof ATTRIBUTES)[number],
): boolean | undefined {
  const text = attributes[name]?.toLowerCase()
  if (text === undefined) return undefined
  if (text !== 'true' && text !== 'false') throw invalid(name, 'it is not "true" or "false"')
  return text === 'true'
}

function isAttribute(name: string): boolean {
  return ATTRIBUTES.some((known) => known === name)
}

/** The value is not repeated: it may be a secret in the wrong place. */
export function invalid(
  field: string,
  why: string,
  { hint }: { readonly hint?: string | undefined } = {},
): LoamError {
  return new LoamError('USAGE', `read ${field}: ${why}`, { hint })
}
