import type { SharedIndexes } from '../content/index.ts'
import { isLoamError, LoamError, throwIfAborted, toLoamError } from '../errors/index.ts'
import {
  type DiffId,
  type Digest,
  digestOf,
  type LazyArtifact,
  type LazyProfile,
  MAX_PROFILE_BYTES,
  MEDIA_TYPES,
  parseLazyArtifact,
  parseLazyProfile,
  splitDigest,
} from '../image/index.ts'
import { TimeLimit } from '../linux/index.ts'
import type { ImageLayerRecord } from '../metadata/index.ts'
import type { ImageSource, LazyArtifacts } from '../sources/index.ts'
import { TRUSTED_BY_MANIFEST } from './chunked-indexes.ts'
import type { PolicyEnforcer } from './policy-enforcer.ts'

/**
 * Which lazy indexes are trusted; each value also allows what those before it allow. `signed`: the artifact is signed as the signature policy requires it of
 * images from the same location. `pinned`: the request names the digest of the artifact. `own`: the index is in `lazy_index_dir`. `repository`: the
 * repository of the image has the artifact. What the policy forbids is never trusted, except for files of `lazy_index_dir`, which it does not cover.
 */
export const LAZY_TRUST = ['signed', 'pinned', 'own', 'repository'] as const
export type LazyTrust = (typeof LAZY_TRUST)[number]

/** An index that covers more of a layer than its blob has is worth nothing; and it is held in memory. */
const MAX_INDEX_BYTES = 256 << 20
const SMALL_INDEX_BYTES = 1 << 20
/** An image is pulled eagerly rather than wait longer for what only makes the pull faster. */
const SEARCH_MS = 10_000
const MAX_REASONS = 4
/** A profile is a few hundred bytes, and no mount waits longer for it. */
const PROFILE_MS = 1000

/** What an index says about itself. */
interface IndexHead {
  readonly blob: { readonly digest: Digest; readonly sizeBytes: number }
  readonly diffId: DiffId
}

/** What a store trusts, and where it looks. */
export interface LazyIndexRules {
  readonly trust: LazyTrust
  /** Undefined: no directory. */
  readonly directory: SharedIndexes | undefined
  /** Undefined: no signature policy. */
  readonly enforcer: Pick<PolicyEnforcer, 'requiresSignature' | 'checkAsked' | 'admit'> | undefined
  /** Returns why an index must not be used again. */
  readonly denialOf: (index: Digest) => string | undefined
  /** Reads what an index says about itself; who uses it reads the rest. @throws LAZY_INDEX_INVALID */
  readonly readIndex: (bytes: Buffer) => IndexHead
}

/** What one caller asks for. */
export interface LazyIndexRequest {
  /** The only artifact that is meant. */
  readonly pin?: Digest | undefined
  readonly signal?: AbortSignal | undefined
}

/** The image that indexes are wanted for. Its layers may be known later than its manifest: the search begins at once. */
export interface LazyIndexSubject {
  /** Digest of its manifest. */
  readonly digest: Digest
  /** Its layers, which are still wanted. */
  readonly layers: readonly ImageLayerRecord[] | Promise<readonly ImageLayerRecord[]>
}

/** A lazy index that is trusted and was not denied. */
export interface FoundLazyIndex {
  readonly indexDigest: Digest
  /** The rule of `lazy_trust` by which it is trusted, with the signer. */
  readonly trustedBy: string
  /** Gets the index, its digest verified, and for exactly this layer. @throws LAZY_INDEX_INVALID, DIGEST_MISMATCH, REGISTRY_*, system errors */
  readonly bytes: (signal?: AbortSignal) => Promise<Buffer>
  /** Gets the spans that containers read first; none if that fails, since they are only a hint. Undefined if nobody has recorded them. */
  readonly profile?: (signal?: AbortSignal) => Promise<readonly number[]>
}

export type LazyIndexes =
  | {
      readonly kind: 'found'
      readonly indexes: ReadonlyMap<DiffId, FoundLazyIndex>
    }
  | {
      readonly kind: 'none'
      /** For users: why the image is pulled eagerly. */
      readonly why: string
    }

/** Indexes that are trusted, of some layers. */
type Trusted = ReadonlyMap<DiffId, FoundLazyIndex>

/**
 * Finds trusted lazy indexes of the layers of an image: files of `lazy_index_dir` first, then the artifact beside the image in its registry. Makes no
 * request if no artifact could be trusted. A failure is a reason to pull eagerly and never an error. @throws CANCELED
 */
export async function findLazyIndexes(
  source: ImageSource,
  image: LazyIndexSubject,
  rules: LazyIndexRules,
  request: LazyIndexRequest = {},
): Promise<LazyIndexes> {
  const search = new Search(source, image, rules, request)
  const found = await search.run()
  throwIfAborted(request.signal, `look for lazy indexes of ${source.name}`)
  if (found.size > 0) return { kind: 'found', indexes: found }
  return { kind: 'none', why: search.why }
}

/**
 * Returns whether the index of a partial layer, which was trusted for an earlier request, is trusted for this one without a search: a file of
 * `lazy_index_dir` for every image, and other indexes for the same name, if no policy has to be asked again. Where it returns false, the request has to find
 * the same index itself.
 */
export function trustsStill(
  { trustedBy, reference }: { readonly trustedBy: string; readonly reference: string },
  source: { readonly name: string },
  { trust, enforcer }: Pick<LazyIndexRules, 'trust' | 'enforcer'>,
  { pin }: LazyIndexRequest = {},
): boolean {
  const rule = LAZY_TRUST.indexOf(trustedBy as LazyTrust)
  const isAllowed = trustedBy === TRUSTED_BY_MANIFEST || (rule !== -1 && rule <= LAZY_TRUST.indexOf(trust))
  if (pin !== undefined || !isAllowed) return false
  return trustedBy === 'own' || (reference === source.name && enforcer === undefined)
}

class Search {
  readonly #source: ImageSource
  readonly #image: LazyIndexSubject
  readonly #rules: LazyIndexRules
  readonly #request: LazyIndexRequest
  readonly #reasons: string[] = []

  constructor(
    source: ImageSource,
    image: LazyIndexSubject,
    rules: LazyIndexRules,
    request: LazyIndexRequest,
  ) {
    this.#source = source
    this.#image = image
    this.#rules = rules
    this.#request = request
  }

  get why(): string {
    return this.#reasons.slice(0, MAX_REASONS).join('; ')
  }

  async run(): Promise<Trusted> {
    const own = await this.#findOwn()
    const isAll = own.size > 0 && (await this.#image.layers).every(({ diffId }) => own.has(diffId))
    if (isAll) return own
    const artifact = await this.#findArtifact()
    return new Map([...(artifact ?? []), ...own])
  }

  #allows(rule: LazyTrust): boolean {
    return LAZY_TRUST.indexOf(rule) <= LAZY_TRUST.indexOf(this.#rules.trust)
  }

  async #findOwn(): Promise<Map<DiffId, FoundLazyIndex>> {
    const found = new Map<DiffId, FoundLazyIndex>()
    const { directory } = this.#rules
    // A request that names an artifact means no other index.
    if (directory === undefined || !this.#allows('own') || this.#request.pin !== undefined) return found
    for (const layer of await this.#image.layers) {
      try {
        const index = await this.#findFile(directory, layer)
        if (index !== undefined) found.set(layer.diffId, index)
      } catch (error) {
        this.#reasons.push(toLoamError(error, `look in ${directory.path}`).message)
        // The next file would be refused for the same reason.
        if (isLoamError(error, 'STORE_UNSAFE')) break
      }
    }
    if (found.size === 0) this.#reasons.push(`${directory.path} has no index of its layers`)
    return found
  }

  async #findFile(files: SharedIndexes, layer: ImageLayerRecord): Promise<FoundLazyIndex | undefined> {
    const maxBytes = maxIndexBytes(layer)
    const file = await files.find(layer.blobDigest, maxBytes)
    if (file === undefined || this.#isDenied(file.digest)) return undefined
    this.#check(file.bytes, layer)
    const { digest } = file
    const bytes = async () => {
      // Only the digest is kept meanwhile: an image may have many layers.
      const again = await files.find(layer.blobDigest, maxBytes)
      if (again?.digest === digest) return again.bytes
      throw invalid(digest, `its file in ${files.path} was changed or removed`)
    }
    return { indexDigest: digest, trustedBy: 'own', bytes }
  }

  async #findArtifact(): Promise<Trusted | undefined> {
    const { lazyArtifacts } = this.#source
    if (lazyArtifacts === undefined) {
      this.#reasons.push('its source has no lazy indexes')
      return undefined
    }
    const { pin } = this.#request
    const isPinTrusted = pin !== undefined && this.#allows('pinned')
    if (!isPinTrusted && !this.#allows('repository') && !this.#isSigned()) {
      this.#reasons.push(this.#whyNotAsked())
      return undefined
    }
    const { signal: given } = this.#request
    using limit = new TimeLimit(SEARCH_MS, given)
    try {
      this.#rules.enforcer?.checkAsked(this.#label, { locations: this.#locations, pin })
      return await this.#search(lazyArtifacts, pin, limit.signal)
    } catch (error) {
      const { message } = toLoamError(error, 'look for its lazy index')
      this.#reasons.push(
        limit.isOver ? `looking for its lazy index takes longer than ${SEARCH_MS} ms` : message,
      )
      return undefined
    }
  }

  #isSigned(): boolean {
    return this.#rules.enforcer?.requiresSignature(this.#locations) ?? false
  }

  get #label(): string {
    return `a lazy index of ${this.#source.name}`
  }

  get #locations() {
    return [...this.#source.asked.locations, ...(this.#source.from?.() ?? [])]
  }

  #whyNotAsked(): string {
    const { trust, directory } = this.#rules
    const unused = [
      ...(this.#request.pin === undefined || this.#allows('pinned') ? [] : ['the digest of the request']),
      ...(directory === undefined || this.#allows('own') ? [] : [directory.path]),
    ]
    const ignored = unused.length === 0 ? '' : `, so that ${unused.join(' and ')} did not count`
    return `lazy_trust is ${trust}${ignored}, and no signature policy requires signatures for its location`
  }

  async #search(
    place: LazyArtifacts,
    pin: Digest | undefined,
    signal: AbortSignal,
  ): Promise<Trusted | undefined> {
    let count = 0
    for await (const { digest, bytes } of place.find(this.#image.digest, { pin, signal })) {
      count += 1
      try {
        const artifact = this.#parse(digest, bytes, pin)
        const trustedBy = await this.#judge(digest, pin, signal)
        const trusted = await this.#select(place, artifact, trustedBy)
        if (trusted.size > 0) return trusted
        this.#reasons.push(`the artifact ${digest} has no usable index of its layers`)
      } catch (error) {
        if (signal.aborted) throw error
        this.#reasons.push(toLoamError(error, `use the artifact ${digest}`).message)
      }
    }
    if (count === 0)
      this.#reasons.push(
        pin === undefined ? 'its repository has no lazy index of it' : `its repository does not have ${pin}`,
      )
    return undefined
  }

  #parse(digest: Digest, bytes: Buffer, pin: Digest | undefined): LazyArtifact {
    const what = `artifact ${digest}`
    const actual = digestOf(bytes, splitDigest(digest).algorithm)
    if (actual !== (pin ?? digest))
      throw new LoamError('DIGEST_MISMATCH', `read ${what}: its digest is ${actual}`)
    const artifact = parseLazyArtifact(bytes, what)
    if (artifact.subject.digest !== this.#image.digest)
      throw new LoamError(
        'DOCUMENT_INVALID',
        `read ${what}: its subject is another image, ${artifact.subject.digest}`,
      )
    return artifact
  }

  /** Returns by which rule an artifact is trusted. @throws POLICY_REFUSED, REGISTRY_* */
  async #judge(digest: Digest, pin: Digest | undefined, signal: AbortSignal): Promise<string> {
    const { enforcer } = this.#rules
    if (enforcer !== undefined) {
      const { findSignatures } = this.#source
      const signatures = findSignatures === undefined ? {} : { findSignatures }
      const source = { name: this.#label, asked: { locations: this.#locations, pin }, ...signatures }
      const decisions = await enforcer.admit({ source, from: [], digest, ids: [] }, signal)
      const signers = [...new Set(decisions.flatMap(({ signer }) => signer ?? []))]
      if (this.#isSigned()) return `signed: ${signers.join(', ')}`
    }
    return pin === undefined ? 'repository' : 'pinned'
  }

  async #select(place: LazyArtifacts, artifact: LazyArtifact, trustedBy: string): Promise<Trusted> {
    const indexes = new Map<DiffId, FoundLazyIndex>()
    const byBlob = new Map(artifact.layers.map((each) => [each.blob, each]))
    const profile = readOnce(place, artifact)
    for (const layer of await this.#image.layers) {
      const entry = byBlob.get(layer.blobDigest)
      if (entry === undefined || this.#isOther(entry.index.digest) || this.#isDenied(entry.index.digest))
        continue
      if (entry.diffId !== layer.diffId)
        throw invalid(entry.index.digest, `it is for ${entry.diffId}, and the layer is ${layer.diffId}`)
      const maxBytes = maxIndexBytes(layer)
      const descriptor = { mediaType: MEDIA_TYPES.lazyLayer, ...entry.index }
      if (descriptor.sizeBytes > maxBytes)
        throw invalid(
          descriptor.digest,
          `it has ${descriptor.sizeBytes} bytes, allowed for its layer are ${maxBytes}`,
        )
      const bytes = async (signal?: AbortSignal) => {
        const got = await place.getBlob(descriptor, { maxBytes, signal })
        const actual = digestOf(got)
        if (actual !== descriptor.digest) throw invalid(descriptor.digest, `its digest is ${actual}`)
        this.#check(got, layer)
        return got
      }
      const { digest } = descriptor
      const spans = async (signal?: AbortSignal) => (await profile?.(signal))?.get(digest) ?? []
      const hint = profile === undefined ? {} : { profile: spans }
      indexes.set(layer.diffId, { indexDigest: digest, trustedBy, bytes, ...hint })
    }
    return indexes
  }

  /** One index has one digest in a store, so that a denial counts for it whoever names it. */
  #isOther(index: Digest): boolean {
    const { algorithm } = splitDigest(index)
    if (algorithm === 'sha256') return false
    this.#reasons.push(`the index ${index} is named by its ${algorithm}, and only a sha256 is used`)
    return true
  }

  #isDenied(index: Digest): boolean {
    const denial = this.#rules.denialOf(index)
    if (denial !== undefined) this.#reasons.push(`the index ${index} was denied: ${denial}`)
    return denial !== undefined
  }

  /** Refuses an index of anything but this layer. @throws LAZY_INDEX_INVALID */
  #check(bytes: Buffer, { diffId, blobDigest, blobBytes }: ImageLayerRecord): void {
    const { blob, diffId: own } = this.#rules.readIndex(bytes)
    if (blob.digest !== blobDigest || blob.sizeBytes !== blobBytes)
      throw invalid(digestOf(bytes), `it is for the blob ${blob.digest} of ${blob.sizeBytes} bytes`)
    if (own !== diffId) throw invalid(digestOf(bytes), `it is for the layer ${own}, expected ${diffId}`)
  }
}

/** Returns a reader of the profile of an artifact, which all layers share. It never fails. */
function readOnce(
  place: LazyArtifacts,
  { profile }: LazyArtifact,
): ((signal?: AbortSignal) => Promise<LazyProfile>) | undefined {
  if (profile === undefined) return undefined
  let reading: Promise<LazyProfile> | undefined
  const read = async (given: AbortSignal | undefined): Promise<LazyProfile> => {
    using limit = new TimeLimit(PROFILE_MS, given)
    const { signal } = limit
    try {
      const descriptor = { mediaType: MEDIA_TYPES.lazyProfile, ...profile }
      const bytes = await place.getBlob(descriptor, { maxBytes: MAX_PROFILE_BYTES, signal })
      if (digestOf(bytes, splitDigest(profile.digest).algorithm) !== profile.digest) return new Map()
      return parseLazyProfile(bytes, `profile ${profile.digest}`)
    } catch {
      return new Map()
    }
  }
  return async (signal) => (reading ??= read(signal))
}

function maxIndexBytes({ blobBytes }: ImageLayerRecord): number {
  return Math.min(MAX_INDEX_BYTES, SMALL_INDEX_BYTES + blobBytes)
}

function invalid(index: Digest, why: string): LoamError {
  return new LoamError('LAZY_INDEX_INVALID', `use lazy index ${index}: ${why}`)
}
