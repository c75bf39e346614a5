import type { SignedEntity } from '@sigstore/verify'
import * as v from 'valibot'
import { check, parseStrictJson, MEDIA_TYPES } from '../image/index.ts'
import type { SigningIdentity, SigningKey } from './rules.ts'
import { SIGNATURE_PREDICATE, type Verdict } from './signature.ts'

const StatementSchema = v.object({
  _type: v.picklist(['https://in-toto.io/Statement/v1', 'https://in-toto.io/Statement/v0.1']),
  subject: v.array(v.object({ digest: v.record(v.string(), v.string()) })),
  predicateType: v.literal(SIGNATURE_PREDICATE),
})

const AnyStatementSchema = v.object({ predicateType: v.string() })

/** The allowed signers of a bundle. */
export type BundleTrust =
  | { readonly keys: readonly SigningKey[] }
  | { readonly trustRoot: unknown; readonly identities: readonly SigningIdentity[] }

/** Evaluates a sigstore bundle with its own data and the policy's, and without any request. If the trust root has logs, the bundle must have their proofs. */
export async function evaluateBundle(
  bytes: Buffer,
  trust: BundleTrust,
  digests: readonly string[],
): Promise<Verdict> {
  try {
    const payload = await verifiedPayload(bytes, trust)
    const { subject } = check(StatementSchema, parseStrictJson(payload.bytes, 'statement'), 'statement')
    const named = subject.flatMap(({ digest }) =>
      Object.entries(digest).map(([algorithm, hex]) => `${algorithm}:${hex}`),
    )
    if (!digests.some((digest) => named.includes(digest)))
      return { refused: `it is for a different image, ${named.slice(0, 3).join(', ')}` }
    return { signer: payload.signer }
  } catch (error) {
    return { refused: error instanceof Error ? error.message : String(error) }
  }
}

/** Returns the signed content, after verifying the signer. @throws the errors of the library */
async function verifiedPayload(
  bytes: Buffer,
  trust: BundleTrust,
): Promise<{ bytes: Buffer; signer: string }> {
  // The library is loaded only for policies that need it.
  const { bundleFromJSON, isBundleWithDsseEnvelope } = await import('@sigstore/bundle')
  const { toSignedEntity } = await import('@sigstore/verify')
  const bundle = bundleFromJSON(parseStrictJson(bytes, 'bundle'))
  if (!isBundleWithDsseEnvelope(bundle)) throw new Error('it signs a file, not an image statement')
  const { payload, payloadType } = bundle.content.dsseEnvelope
  if (payloadType !== MEDIA_TYPES.inToto) throw new Error(`it is of type ${payloadType}`)
  // Nobody's key makes another statement a signature.
  const { predicateType } = check(AnyStatementSchema, parseStrictJson(payload, 'statement'), 'statement')
  if (predicateType !== SIGNATURE_PREDICATE)
    throw new Error(`it is another statement, of predicateType ${predicateType}`)
  const entity = toSignedEntity(bundle)
  const isByKey = entity.key.$case === 'public-key'
  if (isByKey !== 'keys' in trust) throw new Error(`it is by a ${isByKey ? 'key' : 'certificate'}`)
  const signer = 'keys' in trust ? await findKey(entity, trust.keys) : await findIdentity(entity, trust)
  return { bytes: payload, signer }
}

/** A key is trusted by itself: logs and times are not required. */
async function findKey(entity: SignedEntity, keys: readonly SigningKey[]): Promise<string> {
  const { Verifier } = await import('@sigstore/verify')
  const material = await materialOf({})
  const thresholds = { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 }
  const failures: unknown[] = []
  for (const { name, key } of keys) {
    const publicKey = () => ({ publicKey: key, validFor: () => true })
    try {
      new Verifier({ ...material, publicKey }, thresholds).verify({
        ...entity,
        tlogEntries: [],
        timestamps: [],
      })
      return `key ${name}`
    } catch (error) {
      failures.push(error)
    }
  }
  throw new Error('it was made with a different key', { cause: failures })
}

async function findIdentity(
  entity: SignedEntity,
  { trustRoot, identities }: Extract<BundleTrust, { trustRoot: unknown }>,
): Promise<string> {
  const { Verifier } = await import('@sigstore/verify')
  const material = await materialOf(trustRoot)
  const thresholds = {
    tlogThreshold: material.tlogs.length > 0 ? 1 : 0,
    ctlogThreshold: material.ctlogs.length > 0 ? 1 : 0,
    // A certificate is valid for minutes: it counts if a proof shows that it signed within them.
    timestampThreshold: 1,
  }
  const { identity } = new Verifier(material, thresholds).verify(entity)
  const subject = identity?.subjectAlternativeName ?? ''
  const issuer = identity?.extensions?.issuer ?? ''
  if (!identities.some((one) => one.issuer === issuer && suits(one.subject, subject)))
    throw new Error(`it is by ${subject}, whom ${issuer} vouches for`)
  return `${subject} (${issuer})`
}

async function materialOf(trustRoot: unknown) {
  const { TrustedRoot } = await import('@sigstore/protobuf-specs')
  const { toTrustMaterial } = await import('@sigstore/verify')
  return toTrustMaterial(TrustedRoot.fromJSON(trustRoot))
}

/** Returns whether a text matches a pattern, in which `*` matches any text. The parts between stars are searched once, from left to right. */
export function suits(pattern: string, text: string): boolean {
  const [first = '', ...parts] = pattern.split('*')
  const last = parts.pop()
  if (last === undefined) return text === first
  if (!text.startsWith(first)) return false
  let at = first.length
  for (const part of parts) {
    const found = text.indexOf(part, at)
    if (found < 0) return false
    at = found + part.length
  }
  return text.length - last.length >= at && text.endsWith(last)
}
