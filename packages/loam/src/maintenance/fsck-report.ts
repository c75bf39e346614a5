import type { Digest } from '../image/index.ts'

/** A problem that a check found. */
export interface FsckProblem {
  /** The subject: `layer sha256:…`, `image …`, `root filesystem …`. */
  readonly what: string
  /** The problem, as a sentence. */
  readonly problem: string
  /** The repair; undefined if there was none. */
  readonly repaired: string | undefined
  /** Why it could not be repaired, or what the user can do. */
  readonly advice: string | undefined
}

/** The result of a check. */
export interface FsckReport {
  /** How many of each were checked. */
  readonly checked: {
    /** Layers, each by one hash of its tar. */
    readonly layers: number
    /** Partial layers, by their lazy indexes and the spans that are here. */
    readonly partialLayers: number
    /** Metadata images of layers. */
    readonly indexes: number
    /** Images, by their manifests and configs. */
    readonly images: number
    /** Metadata images of stacks of layers. */
    readonly mergedImages: number
    /** Root filesystems of containers. */
    readonly rootfses: number
    /** Bytes that were hashed. */
    readonly tarBytes: number
  }
  /** The problems; empty for a sound store. */
  readonly problems: readonly FsckProblem[]
  /** Lazy indexes that are not used again, since their layers turned out to be wrong. No damage of the store. */
  readonly deniedIndexes: readonly {
    /** Digest of the index. */
    readonly indexDigest: Digest
    /** Why, as a sentence. */
    readonly reason: string
    /** When it was denied, in milliseconds since 1970. */
    readonly deniedAtMs: number
  }[]
}

/** How far the check of one layer is. */
export interface FsckProgress {
  /** The layer, as of `onCheck`. */
  readonly what: string
  /** Bytes that were verified. */
  readonly doneBytes: number
  /** Size of its tar. */
  readonly totalBytes: number
  /** Whether all of it was verified. */
  readonly isDone: boolean
}

/** Options of a check. */
export interface FsckOptions {
  /** Refetch or rebuild what is damaged. */
  readonly repair: boolean
  /** Cancels the check, which then fails with CANCELED. Completed repairs stay. */
  readonly signal?: AbortSignal | undefined
  /** Called before each long step. */
  readonly onCheck?: ((what: string) => void) | undefined
  /** Called with the bytes of a layer that were verified. Several layers are verified at once. */
  readonly onProgress?: ((progress: FsckProgress) => void) | undefined
}
