import type { KeyObject } from 'node:crypto'
import type { Digest } from '../image/index.ts'

/** What may be asked of an image before it is used. */
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
  /** The signer's address or mail address; `*` stands for any text. */
  readonly subject: string
}

interface RuleBase {
  /** Names that it is for: a registry, a repository or what begins so; `*.example.com`; `oci:/srv`; `default`. */
  readonly scope: string
  /** Of all that the rule says, keys and trust roots included: a decision by another rule is none. */
  readonly digest: Digest
}

export type PolicyRule = RuleBase &
  (
    | { readonly kind: 'accept' | 'reject' | 'digest-only' }
    | {
        readonly kind: 'cosign'
        readonly keys: readonly SigningKey[]
        /** Repositories that a signature may name instead of the one that is asked for. */
        readonly signedAs: readonly string[]
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
  readonly rules: readonly PolicyRule[]
  readonly fallback: PolicyRule
}

const TRANSPORT = /^(?:oci|docker-archive|aci|appc):/

/** Returns what of an image's name in the store a policy looks at: a reference without tag and digest, else all of it. */
export function policyScope(name: string): string {
  if (TRANSPORT.test(name)) return name.replace(/^appc:\/\//, '')
  return name.replace(/@[^@]*$/, '').replace(/:[\w][\w.-]*$/, '')
}

/** Finds the rule for an image by its name in the store. */
export function findRule(policy: SignaturePolicy, name: string): PolicyRule {
  const wanted = policyScope(name)
  const fitting = policy.rules.filter(({ scope }) => fits(scope, wanted))
  const [best] = fitting.toSorted((a, b) => weight(b.scope) - weight(a.scope))
  return best ?? policy.fallback
}

function weight(scope: string): number {
  return scope.startsWith('*.') ? scope.length - 1000 : scope.length
}

export function fits(scope: string, name: string): boolean {
  if (scope.startsWith('*.')) {
    const host = name.split('/')[0] ?? ''
    return host.endsWith(scope.slice(1))
  }
  if (!name.startsWith(scope)) return false
  return /[:/]$/.test(scope) || name.length === scope.length || /^[/,:@]/.test(name.slice(scope.length))
}
