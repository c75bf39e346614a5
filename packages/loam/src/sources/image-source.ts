import type { Readable } from 'node:stream'
import type { Descriptor, Digest, DocumentLimit, LazyArtifact, StoredReference } from '../image/index.ts'
import type { NameGiver } from '../metadata/index.ts'
import type { ImageLocation, Signature } from '../policy/index.ts'
import type { Referrer } from './referrers.ts'

/** A manifest or index as a source has it, its digest checked. */
export interface SourceDocument {
  readonly bytes: Buffer
  /** Media type according to the source; undefined if the source gives none. */
  readonly mediaType: string | undefined
  readonly digest: Digest
  /** Why the image has another digest than its name, although it is the requested image. Such a name is not kept. */
  readonly pinNote?: string | undefined
}

/** A request, as a signature policy evaluates it. */
export interface AskedFor {
  /** The location of the name; of a file, with and without symlinks; of an image that is named by its id, all its locations. */
  readonly locations: readonly ImageLocation[]
  /** The digest or Appc id that it has to have. */
  readonly pin: string | undefined
}

/** Options of opening a blob. */
export interface OpenBlobOptions {
  /** First byte; default: 0. At or past the end the stream is empty, which is not an error. */
  readonly offset?: number | undefined
  /** Number of wanted bytes, so that no more are requested. Where that saves nothing the stream may go on, and the caller ends it. */
  readonly lengthBytes?: number | undefined
  /** Called when the source has to send the blob from its start, because it knows no ranges. */
  readonly onWhole?: (() => void) | undefined
  readonly signal?: AbortSignal | undefined
}

/** The place beside an image where artifacts of its lazy indexes are (docs/lazy.md). Callers verify and judge all that it returns. */
export interface LazyArtifacts {
  /**
   * Yields the artifacts of an image, by the digest of its manifest: the one at its tag first, which costs one request, then other referrers; with
   * `pin` only the one with that digest. `isOwn`: the tag is that of the registry itself, and not of a mirror. @throws REGISTRY_*, DOCUMENT_INVALID
   */
  readonly find: (
    image: Digest,
    options: {
      readonly pin: Digest | undefined
      readonly isOwn?: boolean
      readonly signal: AbortSignal | undefined
    },
  ) => AsyncIterable<{ readonly digest: Digest; readonly bytes: Buffer }>
  /** Gets a blob of an artifact whole, its digest verified. @throws REGISTRY_*, DIGEST_MISMATCH, SIZE_MISMATCH, DOCUMENT_TOO_LARGE */
  readonly getBlob: (
    blob: Descriptor,
    options: { readonly maxBytes: number; readonly signal: AbortSignal | undefined },
  ) => Promise<Buffer>
  /**
   * Uploads the artifact of an image: the blobs that are missing there, then the manifest, at its tag and as a referrer of the image. Replaces the
   * artifact that is there. Returns its digest. @throws REGISTRY_*
   */
  readonly push: (
    artifact: LazyArtifact,
    blobs: readonly ArtifactBlob[],
    signal: AbortSignal | undefined,
  ) => Promise<Digest>
}

/** A blob of an artifact that is uploaded. */
export interface ArtifactBlob {
  readonly digest: Digest
  readonly sizeBytes: number
  /** Called once for each try. */
  readonly open: () => Readable
}

/** One location that provides an image. Callers verify all that it returns. */
export interface ImageSource {
  /** Name of the image in the store: a normalised reference, or transport and path. */
  readonly name: StoredReference
  readonly asked: AskedFor
  /** Locations of the content, known once it is resolved, if they differ from that of its name. */
  readonly from?: (() => readonly ImageLocation[]) | undefined
  /** Other names of the image. */
  readonly aliases: readonly StoredReference[]
  /** Who gave these names; undefined: the image itself, whose names are not trusted. */
  readonly aliasesGivenBy?: NameGiver | undefined
  /** Who gave its name; undefined: its location. */
  readonly givenBy?: NameGiver | undefined
  /** Whether its name may be moved from an image of the same location. */
  readonly mayReplace?: boolean | undefined
  /** The name of the file itself, if a user gives the image another name. */
  readonly fileName?: StoredReference | undefined
  /** The image of the store that is meant; undefined: the one that its name refers to. */
  readonly stored?: { readonly digest: Digest; readonly targetDigest: Digest }
  /** Returns a name under which the same bytes can be fetched again; undefined for a converted image, and while it is unknown. */
  readonly origin?: () => string | undefined
  /** Whether resolving costs a network round trip, so that images of the store are used first. */
  readonly isRemote: boolean
  /** Whether resolving the name costs as much as getting the image, so that one of several callers does it for all. */
  readonly isConverted: boolean
  /** Resolves the name. @throws SOURCE_*, REGISTRY_*, IMAGE_NOT_FOUND */
  readonly resolve: (signal?: AbortSignal) => Promise<SourceDocument>
  /** Gets a document of the image whole: a manifest that an index names, or a config. */
  readonly getDocument: (
    descriptor: Descriptor,
    limit: DocumentLimit,
    signal?: AbortSignal,
  ) => Promise<Buffer>
  /** Finds the signatures of an image, by the digests of its manifest and its index, each when it is asked for. Undefined if the source has none. */
  readonly findSignatures?: (digests: readonly Digest[], signal?: AbortSignal) => AsyncIterable<Signature>
  /** Finds what is kept beside an image, by the digests of its index and its manifests. Undefined if the source has none. */
  readonly findReferrers?: (digests: readonly Digest[], signal?: AbortSignal) => Promise<readonly Referrer[]>
  /** Where artifacts of lazy indexes may be. Undefined if the source has none. */
  readonly lazyArtifacts?: LazyArtifacts | undefined
  /** Whether resuming a blob is cheaper than fetching it again, so that the received part is worth keeping. */
  readonly isResumable?: boolean | undefined
  /** Keeps the connections of streamed blobs open until then, also if the caller that opened the source returns. Set by that caller. */
  keepOpen?: (until: Promise<unknown>) => void
  /** Streams a blob: each one that a manifest of the image refers to, its config as well as its layers. @throws SOURCE_*, REGISTRY_*; CANCELED */
  readonly openBlob: (descriptor: Descriptor, options?: OpenBlobOptions) => AsyncIterable<Buffer>
}
