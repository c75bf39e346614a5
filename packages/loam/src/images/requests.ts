import type { Platform } from '../image/index.ts'
import type { CredentialSource } from '../registry/index.ts'
import type { NamedType } from '../sources/index.ts'
import type { PullEvent } from '../stores/index.ts'

/** What all that may fetch something may be told. */
export interface FetchOptions {
  /** Instead of the configured ones, for this request alone. */
  readonly credentials?: CredentialSource | undefined
  /** A file in the form of Docker's config.json. */
  readonly authFile?: string | undefined
  /** Hosts to speak to without TLS, besides the configured ones. */
  readonly insecure?: readonly string[] | undefined
  /** A folder of certificates and mirrors, before the configured ones. */
  readonly certsDir?: string | undefined
  /** Cancels the call, which then fails with CANCELED. Nothing half done stays. */
  readonly signal?: AbortSignal | undefined
  /** Called with progress, and with what a person should know. It must not throw. */
  readonly onEvent?: ((event: PullEvent) => void) | undefined
}

/** What all that touches an image may be told. */
export interface ImageOptions extends FetchOptions {
  /** Undefined: this machine's. */
  readonly platform?: Platform | undefined
  /** What a bare name is a name of. Undefined: a Docker image. */
  readonly imageType?: NamedType | undefined
}

/** What all that gives an image a name may be told. */
export interface NamingOptions {
  /** Give the name to the image also where one that came from there has it. */
  readonly replace?: boolean | undefined
}

/** What an image is made with of a snapshot or of a container. */
export interface CommitOptions extends ImageOptions, NamingOptions {
  /** Image whose config the new one begins with, pulled if needed. Undefined: that of the container's image, or an empty one. */
  readonly base?: string | undefined
}
