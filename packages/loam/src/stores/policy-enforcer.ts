import type { Digest } from '../image/index.ts'
import type { MetadataStore } from '../metadata/index.ts'
import {
  acceptsAll,
  distinctLocations,
  findRule,
  formatLocation,
  evaluate,
  evaluateBefore,
  type ImageLocation,
  type PolicyDecision,
  type PolicyRule,
  refuseUnknown,
  type SignaturePolicy,
} from '../policy/index.ts'
import type { AskedFor, ImageSource } from '../sources/index.ts'

/** Rules that require a signature. */
const SIGNED: readonly PolicyRule['kind'][] = ['cosign', 'sigstore']

/** An image to be evaluated, or an artifact beside it. */
export interface GateSubject {
  /** The request, and the source that finds signatures. */
  readonly source: Pick<ImageSource, 'asked' | 'findSignatures'> & { readonly name: string }
  /** Locations of the content, in addition to the requested one. */
  readonly from: readonly ImageLocation[]
  /** Digest of its manifest. */
  readonly digest: Digest
  /** Its digests and ids, that of its index first. */
  readonly ids: readonly string[]
}

/**
 * Enforces the signature policy, and records its decisions. An image is evaluated for the requested location, and for
 * each location that its content came from: an image that one of them forbids is refused, even if another one allows it.
 */
export class PolicyEnforcer {
  readonly #policy: SignaturePolicy
  readonly #metadata: MetadataStore

  constructor(policy: SignaturePolicy, metadata: MetadataStore) {
    this.#policy = policy
    this.#metadata = metadata
  }

  /** Refuses a request that the policy forbids whatever the image is, before any source is asked. @throws POLICY_REFUSED */
  checkAsked(name: string, { locations, pin }: AskedFor): void {
    for (const location of locations) {
      if (this.isLost(location)) throw refuseUnknown(name)
      if (location.kind !== 'unknown')
        evaluateBefore(findRule(this.#policy, location), { name, location, pin })
    }
  }

  /** Returns whether the policy needs a location that was not recorded. */
  isLost(location: ImageLocation): boolean {
    return location.kind === 'unknown' && !acceptsAll(this.#policy)
  }

  /** Returns whether the policy allows only what is signed, at every one of these locations. */
  requiresSignature(locations: readonly ImageLocation[]): boolean {
    const isSigned = (location: ImageLocation) =>
      location.kind === 'registry' && SIGNED.includes(findRule(this.#policy, location).kind)
    return locations.length > 0 && locations.every(isSigned)
  }

  /**
   * Evaluates the policy for an image; an earlier decision by the same rule about the same location is reused, without a request. @throws
   * POLICY_REFUSED, REGISTRY_*
   */
  async admit(subject: GateSubject, signal: AbortSignal | undefined): Promise<PolicyDecision[]> {
    const { source, from, digest } = subject
    const { name, findSignatures } = source
    const { pin, locations } = source.asked
    const documents = [...new Set([digest, ...subject.ids.filter((id): id is Digest => id.includes(':'))])]
    const find =
      findSignatures === undefined ? undefined : requestedOnce(() => findSignatures(documents, signal))
    const decisions: PolicyDecision[] = []
    for (const location of distinctLocations([...locations, ...from])) {
      if (this.isLost(location)) throw refuseUnknown(name)
      if (location.kind === 'unknown') continue
      const rule = findRule(this.#policy, location)
      const known = this.#metadata.decisions.find(digest, formatLocation(location))
      if (known?.signer !== undefined && known.ruleDigest === rule.digest) {
        decisions.push(known)
        continue
      }
      const digests = [...new Set([...subject.ids, digest])]
      // Only registries have signatures.
      const findHere = location.kind === 'registry' ? find : undefined
      decisions.push(await evaluate(rule, { name, location, pin, digests, findSignatures: findHere }))
    }
    return decisions
  }

  /** Records decisions, unless they are recorded already. */
  async record(digest: Digest, made: readonly PolicyDecision[]): Promise<void> {
    const { decisions } = this.#metadata
    const unknown = made.filter((decision) => {
      const known = decisions.find(digest, decision.repository)
      return known?.ruleDigest !== decision.ruleDigest || known.signer !== decision.signer
    })
    if (unknown.length > 0) await decisions.put(digest, unknown, Date.now())
  }
}

/** Several locations may need the signatures: each signature is requested once. */
function requestedOnce<T>(request: () => AsyncIterable<T>): () => AsyncIterable<T> {
  const known: T[] = []
  let rest: AsyncIterator<T> | undefined
  return async function* replay() {
    yield* known
    rest ??= request()[Symbol.asyncIterator]()
    for (;;) {
      const next = await rest.next()
      if (next.done === true) return
      known.push(next.value)
      yield next.value
    }
  }
}
