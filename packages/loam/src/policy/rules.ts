import type { KeyObject } from 'node:crypto'
import type { Digest } from '../image/index.ts'
import type { ImageLocation } from './location.ts'
import { compareScopes, fits, type Scope } from './scope.ts'

/** The requirements that a rule may have for an image. */
export const POLICY_KINDS = ['accept', 'reject', 'digest-only', 'cosign', 'sigstore'] as const
export type PolicyKind = (typeof POLICY_KINDS)[number]

/** A public key of an allowed signer. */
export interface SigningKey {
  /** The key's name in the policy file. */
  readonly name: string
  readonly key: KeyObject
}

/** An allowed signer with a certificate of the trust root. */
export interface SigningIdentity {
  /** The issuer that identified the signer: the address of an OpenID provider. */
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
        /** Repositories that a signature may name instead of the requested one. */
        readonly signedAs: readonly Scope[]
      }
    | {
        readonly kind: 'sigstore'
        /** A sigstore trusted_root.json, as JSON. */
        readonly trustRoot: unknown
        readonly identities: readonly SigningIdentity[]
      }
  )

/** The rules of a signature policy, by scope; the longest matching scope decides. */
export interface SignaturePolicy {
  readonly rules: readonly (PolicyRule & { readonly scope: Scope })[]
  readonly fallback: PolicyRule
}

/** Finds the rule for a location: that of the most specific scope that contains it. */
export function findRule(policy: SignaturePolicy, location: ImageLocation): PolicyRule {
  const fitting = policy.rules.filter(({ scope }) => fits(scope, location))
  const [best] = fitting.toSorted((a, b) => compareScopes(a.scope, b.scope, location))
  return best ?? policy.fallback
}

/** Returns whether the rules are the same for all locations: then it does not matter which one an image came from. */
export function acceptsAll({ rules, fallback }: SignaturePolicy): boolean {
  return [fallback, ...rules].every(({ kind }) => kind === 'accept')
}
