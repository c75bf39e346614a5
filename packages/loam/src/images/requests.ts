import type { Platform } from '../image/index.ts'
import type { CredentialSource } from '../registry/index.ts'
import type { NamedType } from '../sources/index.ts'
import type { PullEvent } from '../stores/index.ts'

/** Options of every operation that may fetch something. */
export interface FetchOptions {
  /** Credentials for this request only, instead of the configured ones. */
  readonly credentials?: CredentialSource | undefined
  /** A file in the format of Docker's config.json. */
  readonly authFile?: string | undefined
  /** Hosts that may be contacted without TLS, in addition to the configured ones. */
  readonly insecure?: readonly string[] | undefined
  /** A folder of certificates and mirrors, read before the configured ones. */
  readonly certsDir?: string | undefined
  /** Cancels the call, which then fails with CANCELED. Nothing unfinished is left behind. */
  readonly signal?: AbortSignal | undefined
  /** Called with progress and notes for the user. It must not throw. */
  readonly onEvent?: ((event: PullEvent) => void) | undefined
}

/** Options of every operation on an image. */
export interface ImageOptions extends FetchOptions {
  /** Undefined: this machine's. */
  readonly platform?: Platform | undefined
  /** The type of image that a bare name refers to. Undefined: a Docker image. */
  readonly imageType?: NamedType | undefined
}

/** Options of every operation that gives an image a name. */
export interface NamingOptions {
  /** Replace the name even if an image that came from the name's own registry has it. */
  readonly replace?: boolean | undefined
}

/** Options for creating an image from a snapshot or a container. */
export interface CommitOptions extends ImageOptions, NamingOptions {
  /** Image whose config is the base of the new config; pulled if needed. Undefined: the config of the container's image, or an empty one. */
  readonly base?: string | undefined
}
