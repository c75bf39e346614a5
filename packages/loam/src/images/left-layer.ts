import type { Activity } from '../activity/index.ts'
import { type ErrorCode, type LoamError, toLoamError } from '../errors/index.ts'

/** The operation that observers are told about. */
export const LEFT_OPERATION = 'snapshots.leave'

const ADOPT = 'Then `loam snapshot adopt` it, or remove the image from containerd and pull it again.'
const PULL_AGAIN = 'Remove the image from containerd and pull it again: its tag may have moved.'

/** Causes without an error, with what a user can do. */
const REMEDIES = {
  'not-named': 'Let containerd name image and layer to Loam: `loam doctor --containerd` says how.',
  'other-image': PULL_AGAIN,
  'other-parent': PULL_AGAIN,
  'unpacked-parent': 'Remove the images that use that layer from containerd, and pull again.',
  'unsupported-machine': '`loam doctor` says what the erofs backend needs.',
  'unsupported-layer': 'Build the image without this file.',
} as const

type PlainCause = keyof typeof REMEDIES

/** Errors that other credentials may prevent. */
const OF_CREDENTIALS: readonly ErrorCode[] = [
  'REGISTRY_UNAUTHORIZED',
  'REGISTRY_DENIED',
  'CREDENTIALS_INVALID',
]

/** A layer that Loam does not provide, so that the client has to fetch and unpack it. */
export interface LeftLayer {
  /** The image that the client named; undefined if it named none. */
  readonly image: string | undefined
  /** The layer: its chainID, or the digest of its blob. */
  readonly ref: string
  /** Code of the error, or a word for a cause that is not an error. */
  readonly cause: ErrorCode | PlainCause
  /** The cause as a sentence. */
  readonly reason: string
  /** What to do, so that Loam provides it the next time. */
  readonly remedy: string | undefined
}

/** Returns a cause that is not an error. */
export function leftFor(cause: PlainCause, reason: string): Omit<LeftLayer, 'image' | 'ref'> {
  return { cause, reason, remedy: REMEDIES[cause] }
}

/** Returns the cause of a failure. */
export function leftByError(error: unknown): Omit<LeftLayer, 'image' | 'ref'> {
  const { code, message, hint }: LoamError = toLoamError(error, 'bring in a layer')
  if (!OF_CREDENTIALS.includes(code)) return { cause: code, reason: message, remedy: hint }
  const give =
    'Give Loam the credentials of the image: kubelet --image-service-endpoint, image_credential_provider_config or docker_config (docs/containerd.md, Credentials).'
  return { cause: code, reason: message, remedy: [hint, give, ADOPT].filter(Boolean).join(' ') }
}

/** Tells observers that a layer is left to the client. */
export async function tellLeft(activity: Activity, { image, ref, ...why }: LeftLayer): Promise<void> {
  await activity.observe(LEFT_OPERATION, { image, layer: ref, ...why }, async () => undefined)
}
