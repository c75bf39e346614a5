import { LoamError } from '../errors/index.ts'
import type { Digest } from '../image/index.ts'
import { judgeBundle } from './bundle.ts'
import { type PolicyRule, policyScope } from './rules.ts'
import type { Signature, Verdict } from './signature.ts'
import { judgeSimple } from './simple-signing.ts'

/** Why an image may be used. */
export interface PolicyDecision {
  /** Name without tag and digest that it was decided for. */
  readonly repository: string
  /** Scope of the rule that decided. */
  readonly scope: string
  readonly policy: string
  /** Of the rule as it was. */
  readonly ruleDigest: Digest
  /** Who signed, where a signature was asked for. */
  readonly signer: string | undefined
}

/** The image that is judged. */
export interface PolicySubject {
  /** Name in the store. */
  readonly name: string
  /** Of the manifest, and of the index that the name stands for. */
  readonly digests: readonly Digest[]
  /** Finds what was said of the image; undefined where nobody can be asked. */
  readonly findSignatures: (() => Promise<readonly Signature[]>) | undefined
}

/** Judges an image by its rule. @throws POLICY_REFUSED, and what looking for signatures throws */
export async function judge(rule: PolicyRule, subject: PolicySubject): Promise<PolicyDecision> {
  const decision = (signer?: string): PolicyDecision => ({
    repository: policyScope(subject.name),
    scope: rule.scope,
    policy: rule.kind,
    ruleDigest: rule.digest,
    signer,
  })
  switch (rule.kind) {
    case 'accept':
      return decision()
    case 'reject':
      throw refused(rule, subject, 'images from there are not allowed')
    case 'digest-only':
      if (/@sha(?:256|512):[0-9a-f]+$/.test(subject.name) || /,id=sha512-/.test(subject.name))
        return decision()
      throw refused(rule, subject, 'it has to be asked for by its digest', `Use NAME@${subject.digests[0]}.`)
    case 'cosign':
    case 'sigstore':
      return decision(await findSigner(rule, subject))
  }
}

async function findSigner(
  rule: Extract<PolicyRule, { kind: 'cosign' | 'sigstore' }>,
  subject: PolicySubject,
): Promise<string> {
  if (subject.findSignatures === undefined)
    throw refused(rule, subject, 'it has to be signed, and comes from where there are no signatures')
  const signatures = await subject.findSignatures()
  const reasons: string[] = []
  for (const signature of signatures) {
    const verdict = await judgeOne(rule, signature, subject)
    if ('signer' in verdict) return verdict.signer
    reasons.push(verdict.refused)
  }
  const what =
    signatures.length === 0
      ? 'it has to be signed, and nobody has signed it'
      : `it has to be signed, and of ${signatures.length} signatures none counts: ${[...new Set(reasons)].slice(0, 5).join('; ')}`
  throw refused(rule, subject, what)
}

async function judgeOne(
  rule: Extract<PolicyRule, { kind: 'cosign' | 'sigstore' }>,
  signature: Signature,
  { name, digests }: PolicySubject,
): Promise<Verdict> {
  if (signature.form === 'bundle') return judgeBundle(signature.bytes, rule, digests)
  if (rule.kind !== 'cosign') return { refused: 'it is no sigstore bundle' }
  const repositories = rule.signedAs.length > 0 ? rule.signedAs : [policyScope(name)]
  return judgeSimple(signature, rule.keys, { digests, repositories })
}

function refused(rule: PolicyRule, { name, digests }: PolicySubject, why: string, hint?: string): LoamError {
  const scope = rule.scope === 'default' ? 'the default' : `scope "${rule.scope}"`
  return new LoamError('POLICY_REFUSED', `use ${name}: the signature policy forbids it: ${why}`, {
    hint: hint ?? `The rule is ${rule.kind}, of ${scope} in the file that signature_policy names.`,
    details: { digest: digests.join(), scope: rule.scope, policy: rule.kind },
  })
}
