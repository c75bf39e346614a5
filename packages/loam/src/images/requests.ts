import type { Digest, Platform } from '../image/index.ts'
import type { CredentialSource } from '../registry/index.ts'
import type { NamedType } from '../sources/index.ts'
import type { GetOptions, PullEvent } from '../stores/index.ts'

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
  /** Accept an OCI artifact of a registry, too: an image of its files, by their `org.opencontainers.image.title`. Undefined: volumes do, and nothing else. */
  readonly mayBeArtifact?: boolean | undefined
}

/** Options of every operation that can leave the data of layers for later. */
export interface LazyOptions {
  /**
   * True: pull lazily the layers that have a trusted lazy index, and tell by an event if there is none. False: pull all data before. Undefined: as the setting
   * `lazy_pull` says.
   */
  readonly lazy?: boolean | undefined
  /** Digest of the artifact of lazy indexes that is meant, which `lazy_trust=pinned` trusts. */
  readonly lazyIndex?: Digest | undefined
}

/** Options of a pull. */
export interface PullImageOptions extends ImageOptions, LazyOptions {}

/** Options of every operation that gives an image a name. */
export interface NamingOptions {
  /** Replace the name even if an image that came from the name's own registry has it. */
  readonly replace?: boolean | undefined
}

/** Options for creating an image from a snapshot or a container. */
export interface CommitOptions extends ImageOptions, NamingOptions {
  /** Image whose config is the base of the new config; pulled if needed. Undefined: the config of the container's image, or an empty one. */
  readonly base?: string | undefined
  /** Changes to the config: instructions of a Dockerfile (`CMD`, `ENV`, …), one in each text. */
  readonly changes?: readonly string[] | undefined
  /** Comment in the image's history. */
  readonly message?: string | undefined
  /** Author of the image. */
  readonly author?: string | undefined
  /** Time that the image says it was created at, in milliseconds since 1970; later times of the changed files become this one. Undefined: now. */
  readonly createdAtMs?: number | undefined
}

/** Returns how the layers of a request may be pulled, by its own wish or by the setting `lazy_pull`. */
export function lazyModeOf(
  options: FetchOptions & LazyOptions,
  setting: 'auto' | 'off',
): { readonly lazy: GetOptions['lazy']; readonly whyEager: string | undefined } {
  return { lazy: lazyWishOf(options, setting), whyEager: whyEagerOf(options) }
}

function lazyWishOf({ lazy, lazyIndex }: LazyOptions, setting: 'auto' | 'off'): GetOptions['lazy'] {
  if (lazy !== undefined) return lazy ? 'asked' : undefined
  if (lazyIndex !== undefined) return 'asked'
  return setting === 'auto' ? 'auto' : undefined
}

/** Returns why a request cannot leave data for later: what fetches it then has only what is configured. Undefined: it can. */
export function whyEagerOf({
  credentials,
  authFile,
  certsDir,
  insecure = [],
}: FetchOptions): string | undefined {
  if (credentials !== undefined || authFile !== undefined)
    return 'the request has credentials of its own, which would be missing when the data is fetched later'
  if (certsDir !== undefined || insecure.length > 0)
    return 'the request has TLS options of its own, which would be missing when the data is fetched later'
  return undefined
}
