import type { Descriptor, Digest, DocumentLimit, StoredReference } from '../image/index.ts'
import type { NameGiver } from '../metadata/index.ts'
import type { ImageLocation, Signature } from '../policy/index.ts'

/** A manifest or index as a source has it, its digest checked. */
export interface SourceDocument {
  readonly bytes: Buffer
  /** What the source says that it is; undefined when it says nothing. */
  readonly mediaType: string | undefined
  readonly digest: Digest
  /** Why the image is not what the digest in its name says, though it is what was asked for. Such a name is not kept. */
  readonly pinNote?: string | undefined
}

/** What was asked for, as a signature policy looks at it. */
export interface AskedFor {
  /** The location that its name is of; of a file, however its path is written; of an image that was named by its id, all locations of it. */
  readonly locations: readonly ImageLocation[]
  /** The digest or Appc id that it has to have. */
  readonly pin: string | undefined
}

/** How a blob is opened. */
export interface OpenBlobOptions {
  /** The byte that it begins with; all of it without. At the end and past it there is nothing, and that is no error. */
  readonly offset?: number | undefined
  readonly signal?: AbortSignal | undefined
}

/** One location that an image comes from. What it gives is checked by who takes it. */
export interface ImageSource {
  /** What the image is known by in the store: a normalised reference, or transport and path. */
  readonly name: StoredReference
  readonly asked: AskedFor
  /** Where the content is from, as soon as it is resolved, where that is not the location of its name. */
  readonly from?: (() => readonly ImageLocation[]) | undefined
  /** Other names that the image brings along. */
  readonly aliases: readonly StoredReference[]
  /** Who gives these names; undefined: the image, which may say anything. */
  readonly aliasesGivenBy?: NameGiver | undefined
  /** Who gives its name; undefined: the location that it is of. */
  readonly givenBy?: NameGiver | undefined
  /** Whether its name may be taken from an image of that location. */
  readonly mayReplace?: boolean | undefined
  /** The name of the file itself that a user gives another name to. */
  readonly fileName?: StoredReference | undefined
  /** The image of the store that this is, whatever its name refers to; undefined for the image that its name refers to. */
  readonly stored?: { readonly digest: Digest; readonly targetDigest: Digest }
  /** Returns by which name others get the same bytes again: undefined for what is made here, and as long as that is not known. */
  readonly origin?: () => string | undefined
  /** Whether asking costs a network round trip, so that what is in the store is taken first. */
  readonly isRemote: boolean
  /** Whether finding out what the name refers to costs as much as getting it, so that of many who ask one does. */
  readonly isConverted: boolean
  /** Finds out what the name refers to now. @throws SOURCE_*, REGISTRY_*, IMAGE_NOT_FOUND */
  readonly resolve: (signal?: AbortSignal) => Promise<SourceDocument>
  /** Gets a document of the image whole: a manifest that an index names, or a config. */
  readonly getDocument: (
    descriptor: Descriptor,
    limit: DocumentLimit,
    signal?: AbortSignal,
  ) => Promise<Buffer>
  /** Finds what was said of an image, by the digests of its manifest and its index. Undefined where nothing is said. */
  readonly findSignatures?: (
    digests: readonly Digest[],
    signal?: AbortSignal,
  ) => Promise<readonly Signature[]>
  /** Whether a blob that was cut off costs less from there on than anew, so that what has come of it is worth a file. */
  readonly isResumable?: boolean | undefined
  /** Keeps open what blobs are streamed from until then, though who has opened the source leaves. Set by who opens it. */
  keepOpen?: (until: Promise<unknown>) => void
  /** Streams a layer blob. @throws SOURCE_*, REGISTRY_*; CANCELED */
  readonly openBlob: (descriptor: Descriptor, options?: OpenBlobOptions) => AsyncIterable<Buffer>
}
