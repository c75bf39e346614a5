import type { KeyObject } from 'node:crypto'
import type { Digest } from '../image/index.ts'
import type { ImageLocation } from './location.ts'
import { fits, type Scope, weight } from './scope.ts'

/** The requirements that a rule may have for an image. */
export const POLICY_KINDS = ['accept', 'reject', 'digest-only', 'cosign', 'sigstore'] as const
export type PolicyKind = (typeof POLICY_KINDS)[number]

/** A public key that may have signed. */
export interface SigningKey {
  /** As the policy file names it. */
  readonly name: string
  readonly key: KeyObject
}

/** Who may have signed by a certificate of the trust root. */
export interface SigningIdentity {
  /** Who vouched for the signer: the address of an OpenID provider. */
  readonly issuer: string
  /** The signer's address or mail address; `*` matches any text. */
  readonly subject: string
}

interface RuleBase {
  /** Its scope, as written in the file; `default` for images in no scope. */
  readonly name: string
  /** Covers the whole rule, with keys and trust roots: a decision by another rule does not count. */
  readonly digest: Digest
}

export type PolicyRule = RuleBase &
  (
    | { readonly kind: 'accept' | 'reject' | 'digest-only' }
    | {
        readonly kind: 'cosign'
        readonly keys: readonly SigningKey[]
        /** Repositories that a signature may name instead of the one that is asked for. */
        readonly signedAs: readonly Scope[]
      }
    | {
        readonly kind: 'sigstore'
        /** A sigstore trusted_root.json, as JSON. */
        readonly trustRoot: unknown
        readonly identities: readonly SigningIdentity[]
      }
  )

/** Which images may be used. Rules by scope; the longest scope that fits decides. */
export interface SignaturePolicy {
  readonly rules: readonly (PolicyRule & { readonly scope: Scope })[]
  readonly fallback: PolicyRule
}

/** Finds the rule for a location: of the scopes that it is in the one that says most of it. */
export function findRule(policy: SignaturePolicy, location: ImageLocation): PolicyRule {
  const fitting = policy.rules.filter(({ scope }) => fits(scope, location))
  const [best] = fitting.toSorted((a, b) => weight(b.scope) - weight(a.scope))
  return best ?? policy.fallback
}

/** Whether the rules are the same for all locations: then it does not matter which one an image came from. */
export function acceptsAll({ rules, fallback }: SignaturePolicy): boolean {
  return [fallback, ...rules].every(({ kind }) => kind === 'accept')
}
