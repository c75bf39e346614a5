import { createPublicKey } from 'node:crypto'
import * as v from 'valibot'
import { LoamError } from '../errors/index.ts'
import { check, digestOf, parseStrictJson } from '../image/index.ts'
import { POLICY_KINDS, type PolicyRule, type SignaturePolicy } from './rules.ts'

const words = v.optional(v.array(v.pipe(v.string(), v.nonEmpty())), [])
const RuleSchema = v.strictObject({
  policy: v.picklist(POLICY_KINDS),
  keys: words,
  signed_as: words,
  trust_root: v.optional(v.string()),
  identities: v.optional(
    v.array(
      v.strictObject({
        issuer: v.pipe(v.string(), v.nonEmpty()),
        subject: v.pipe(v.string(), v.nonEmpty()),
      }),
    ),
    [],
  ),
})
const PolicySchema = v.strictObject({
  default: v.picklist(['accept', 'reject', 'digest-only']),
  scope: v.optional(v.record(v.pipe(v.string(), v.nonEmpty()), RuleSchema), {}),
})

type RuleText = v.InferOutput<typeof RuleSchema>

/** Reads a file that a policy names. */
export type ReadNamedFile = (path: string) => Buffer

/** Understands a policy file's TOML. `what` names it in messages. @throws CONFIG_INVALID, and what reading keys and trust roots throws */
export function parsePolicy(value: unknown, readNamed: ReadNamedFile, what: string): SignaturePolicy {
  let parsed: v.InferOutput<typeof PolicySchema>
  try {
    parsed = check(PolicySchema, value, what)
  } catch (error) {
    throw invalid(what, error instanceof Error ? error.message : String(error), error)
  }
  return {
    fallback: {
      scope: 'default',
      kind: parsed.default,
      digest: digestOf(Buffer.from(`default ${parsed.default}`)),
    },
    rules: Object.entries(parsed.scope).map(([scope, rule]) => toRule(scope, rule, readNamed, what)),
  }
}

function toRule(scope: string, text: RuleText, readNamed: ReadNamedFile, what: string): PolicyRule {
  const wrong = (why: string) => invalid(what, `scope "${scope}": ${why}`)
  const { policy: kind, keys, signed_as: signedAs, trust_root: trustRoot, identities } = text
  if (keys.length + signedAs.length > 0 && kind !== 'cosign')
    throw wrong(`keys and signed_as belong to the policy cosign, and not to ${kind}`)
  if ((trustRoot !== undefined || identities.length > 0) && kind !== 'sigstore')
    throw wrong(`trust_root and identities belong to the policy sigstore, and not to ${kind}`)
  const base = (named: readonly Buffer[]) => ({
    scope,
    digest: digestOf(Buffer.from(JSON.stringify([scope, text, ...named.map((bytes) => digestOf(bytes))]))),
  })
  if (kind === 'cosign') {
    if (keys.length === 0) throw wrong('the policy cosign needs keys')
    const files = keys.map((path) => readNamed(path))
    const parsed = keys.map((name, index) => ({ name, key: parseKey(files[index], name, wrong) }))
    return { ...base(files), kind, keys: parsed, signedAs }
  }
  if (kind === 'sigstore') {
    if (trustRoot === undefined || identities.length === 0)
      throw wrong('the policy sigstore needs trust_root and identities')
    const file = readNamed(trustRoot)
    return { ...base([file]), kind, trustRoot: parseStrictJson(file, trustRoot), identities }
  }
  return { ...base([]), kind }
}

function parseKey(file: Buffer | undefined, name: string, wrong: (why: string) => LoamError) {
  try {
    return createPublicKey(file ?? '')
  } catch (error) {
    throw wrong(`${name} is no public key in PEM (${String(error)})`)
  }
}

function invalid(what: string, why: string, cause?: unknown): LoamError {
  return new LoamError('CONFIG_INVALID', `read ${what}: ${why}`, {
    cause,
    hint: 'docs/signatures.md describes the file.',
  })
}
