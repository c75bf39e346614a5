import { LoamError } from '../errors/index.ts'
import type { Digest } from '../image/index.ts'
import { evaluateBundle } from './bundle.ts'
import { formatLocation, type ImageLocation } from './location.ts'
import type { PolicyRule } from './rules.ts'
import type { Signature, Verdict } from './signature.ts'
import { evaluateSimple } from './simple-signing.ts'

/** Length of a reason in messages: it may quote what somebody has pushed. */
const MAX_REASON = 300

/** A decision that allows an image. */
export interface PolicyDecision {
  /** Location that it was decided for: a repository, a file, an Appc name. */
  readonly repository: string
  /** Scope of the rule. */
  readonly scope: string
  /** Kind of the rule. */
  readonly policy: string
  /** Digest of the rule at that time. */
  readonly ruleDigest: Digest
  /** The signer, if the rule requires a signature. */
  readonly signer: string | undefined
}

/** The image that is evaluated. */
export interface PolicySubject {
  /** For messages. */
  readonly name: string
  /** Its location. */
  readonly location: ImageLocation
  /** Digest or Appc id of the request. */
  readonly pin: string | undefined
  /** Digests of the manifest, and of the index that the name refers to; the id of an Appc image. Empty before they are known. */
  readonly digests: readonly string[]
  /** Finds the signatures of the image; undefined if its location has no way to ask for any. */
  readonly findSignatures: (() => AsyncIterable<Signature>) | undefined
}

/** Evaluates an image by its rule. @throws POLICY_REFUSED, and the errors of `findSignatures` */
export async function evaluate(rule: PolicyRule, subject: PolicySubject): Promise<PolicyDecision> {
  const decision = (signer?: string): PolicyDecision => ({
    repository: formatLocation(subject.location),
    scope: rule.name,
    policy: rule.kind,
    ruleDigest: rule.digest,
    signer,
  })
  switch (rule.kind) {
    case 'accept':
      return decision()
    case 'reject':
      throw refused(rule, subject, 'images from this location are not allowed')
    case 'digest-only':
      if (subject.pin !== undefined && subject.digests.includes(subject.pin)) return decision()
      throw refused(rule, subject, 'the image must be requested by digest', digestHint(subject))
    case 'cosign':
    case 'sigstore':
      return decision(await findSigner(rule, subject))
  }
}

function digestHint({ digests: [digest] }: PolicySubject): string | undefined {
  return digest === undefined ? undefined : `Use NAME@${digest}.`
}

/** Refuses an image if its location and the requested name decide that, before any request for signatures. @throws POLICY_REFUSED */
export function evaluateBefore(
  rule: PolicyRule,
  subject: Pick<PolicySubject, 'name' | 'location' | 'pin'>,
): void {
  if (rule.kind === 'reject') throw refused(rule, subject, 'images from this location are not allowed')
  if (rule.kind === 'digest-only' && subject.pin === undefined)
    throw refused(rule, subject, 'the image must be requested by digest')
}

/** Refuses an image from a location that was not recorded. */
export function refuseUnknown(name: string): LoamError {
  return new LoamError(
    'POLICY_REFUSED',
    `use ${name}: the location that the image came from is not recorded`,
    {
      hint: 'Pull it again from its registry, or `loam put` its file.',
    },
  )
}

async function findSigner(
  rule: Extract<PolicyRule, { kind: 'cosign' | 'sigstore' }>,
  subject: PolicySubject,
): Promise<string> {
  if (subject.findSignatures === undefined)
    throw refused(rule, subject, 'a signature is required, and its location does not provide signatures')
  let count = 0
  const reasons = new Set<string>()
  for await (const signature of subject.findSignatures()) {
    count += 1
    const verdict = await evaluateOne(rule, signature, subject)
    if ('signer' in verdict) return verdict.signer
    reasons.add(verdict.refused.slice(0, MAX_REASON))
  }
  const what =
    count === 0
      ? 'a signature is required, and it is not signed'
      : `a signature is required, and none of ${count} signatures is accepted: ${[...reasons].slice(0, 5).join('; ')}`
  throw refused(rule, subject, what)
}

async function evaluateOne(
  rule: Extract<PolicyRule, { kind: 'cosign' | 'sigstore' }>,
  signature: Signature,
  { location, digests }: PolicySubject,
): Promise<Verdict> {
  if (signature.kind === 'unreadable') return { refused: signature.why }
  if (signature.kind === 'bundle') return evaluateBundle(signature.bytes, rule, digests)
  if (rule.kind !== 'cosign') return { refused: 'it is no sigstore bundle' }
  return evaluateSimple(signature, rule.keys, { digests, location, signedAs: rule.signedAs })
}

function refused(
  rule: PolicyRule,
  { name, location, digests = [] }: Pick<PolicySubject, 'name' | 'location'> & Partial<PolicySubject>,
  why: string,
  hint?: string,
): LoamError {
  const scope = rule.name === 'default' ? 'the default' : `scope "${rule.name}"`
  const where = formatLocation(location)
  const from = name.startsWith(where) ? '' : ` (from ${where})`
  return new LoamError('POLICY_REFUSED', `use ${name}${from}: the signature policy forbids it: ${why}`, {
    hint: hint ?? `The rule is ${rule.kind}, of ${scope} in the file of signature_policy.`,
    details: { digest: digests.join(), scope: rule.name, policy: rule.kind },
  })
}
