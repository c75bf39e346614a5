import { verify } from 'node:crypto'
import * as v from 'valibot'
import { isLoamError } from '../errors/index.ts'
import { check, parseReference, parseStrictJson } from '../image/index.ts'
import { formatLocation, type ImageLocation, registryLocation } from './location.ts'
import type { SigningKey } from './rules.ts'
import { fits, type Scope } from './scope.ts'
import type { Verdict } from './signature.ts'

const PayloadSchema = v.object({
  critical: v.object({
    type: v.literal('cosign container image signature'),
    image: v.object({ 'docker-manifest-digest': v.string() }),
    identity: v.object({ 'docker-reference': v.string() }),
  }),
})

export interface SimpleSigning {
  readonly payload: Buffer
  /** In base64. */
  readonly signature: string
}

export interface SimpleSubject {
  /** Digest of the image, or of the index that it is in. */
  readonly digests: readonly string[]
  /** The repository that a signature has to be for, */
  readonly location: ImageLocation
  /** unless others are named: then it has to be for one of those, or of what begins so. */
  readonly signedAs: readonly Scope[]
}

/** Evaluates a signature by a key, using only the key (cosign's SIGNATURE_SPEC.md). */
export function evaluateSimple(
  { payload, signature }: SimpleSigning,
  keys: readonly SigningKey[],
  subject: SimpleSubject,
): Verdict {
  const bytes = Buffer.from(signature, 'base64')
  // The signature first: the payload is not parsed before it is verified.
  const signer = keys.find(({ key }) => verifies(payload, key, bytes))
  if (signer === undefined) return { refused: 'it was made with a different key' }
  let critical: v.InferOutput<typeof PayloadSchema>['critical']
  try {
    ;({ critical } = check(PayloadSchema, parseStrictJson(payload, 'signature'), 'signature'))
  } catch (error) {
    if (!isLoamError(error)) throw error
    return { refused: `its payload is not an image signature (${error.message})` }
  }
  const digest = critical.image['docker-manifest-digest']
  if (!subject.digests.some((one) => one === digest))
    return { refused: `it is for a different image, ${digest}` }
  const reference = critical.identity['docker-reference']
  const repository = readRepository(reference)
  if (repository === undefined || !isFor(repository, subject))
    return {
      refused: `it is for ${repository === undefined ? reference : formatLocation(repository)} (signed_as)`,
    }
  return { signer: `key ${signer.name}` }
}

function verifies(payload: Buffer, key: SigningKey['key'], signature: Buffer): boolean {
  try {
    return verify(key.asymmetricKeyType === 'ed25519' ? null : 'sha256', payload, key, signature)
  } catch {
    return false
  }
}

/** A signature is for one repository: repositories below it need their own. */
function isFor(repository: ImageLocation, { location, signedAs }: SimpleSubject): boolean {
  if (signedAs.length > 0) return signedAs.some((scope) => fits(scope, repository))
  return formatLocation(repository) === formatLocation(location)
}

function readRepository(reference: string): ImageLocation | undefined {
  try {
    return registryLocation(parseReference(reference))
  } catch {
    return undefined
  }
}
