import type { Digest } from '../image/index.ts'
import type { ImageRecord, MetadataStore } from '../metadata/index.ts'
import { findRule, judge, type PolicyDecision, policyScope, type SignaturePolicy } from '../policy/index.ts'
import type { ImageSource } from '../sources/index.ts'

/** Lets in what the signature policy allows, and keeps in mind what it has decided. */
export class PolicyGate {
  readonly #policy: SignaturePolicy
  readonly #metadata: MetadataStore

  constructor(policy: SignaturePolicy, metadata: MetadataStore) {
    this.#policy = policy
    this.#metadata = metadata
  }

  /** Says no where the name alone decides, before anybody is asked for anything. @throws POLICY_REFUSED */
  async checkName(name: string): Promise<void> {
    const rule = findRule(this.#policy, name)
    if (rule.kind === 'reject' || rule.kind === 'digest-only')
      await judge(rule, { name, digests: [], findSignatures: undefined })
  }

  /** Decides about an image; what the same rule has decided before stands, and nobody is asked. @throws POLICY_REFUSED, REGISTRY_* */
  async admit(
    record: Pick<ImageRecord, 'digest'>,
    targetDigest: Digest,
    source: ImageSource,
    signal: AbortSignal | undefined,
  ): Promise<PolicyDecision> {
    const { name } = source
    const rule = findRule(this.#policy, name)
    const known = this.#metadata.decisions.find(record.digest, policyScope(name))
    if (known !== undefined && known.ruleDigest === rule.digest && known.signer !== undefined) return known
    const digests = [...new Set([record.digest, targetDigest])]
    const { findSignatures } = source
    return judge(rule, {
      name,
      digests,
      findSignatures: findSignatures === undefined ? undefined : async () => findSignatures(digests, signal),
    })
  }

  /** Writes a decision down, unless it is there. */
  record(digest: Digest, decision: PolicyDecision): void {
    const { decisions } = this.#metadata
    const known = decisions.find(digest, decision.repository)
    if (known?.ruleDigest === decision.ruleDigest && known.signer === decision.signer) return
    decisions.put(digest, decision, Date.now())
  }
}
