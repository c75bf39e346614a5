import { createPublicKey } from 'node:crypto'
import * as v from 'valibot'
import { LoamError } from '../errors/index.ts'
import { check, digestOf, parseStrictJson } from '../image/index.ts'
import { POLICY_KINDS, type PolicyRule, type SignaturePolicy } from './rules.ts'
import { parseScope, type Scope } from './scope.ts'

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

/**
 * Version of the evaluation. It is a part of each rule's digest, so that decisions of an earlier version are made again: until 2, a
 * signature counted for all repositories below the one that it names.
 */
const EVALUATION_VERSION = 2

type RuleText = v.InferOutput<typeof RuleSchema>

/** Reads a file that a policy names. */
export type ReadNamedFile = (path: string) => Buffer

/** The context for reading a policy file. */
export interface PolicyFile {
  /** For messages. */
  readonly what: string
  readonly readNamed: ReadNamedFile
  /** Registry of a name without a host. */
  readonly defaultRegistry: string
}

/** Parses a policy file's TOML. @throws CONFIG_INVALID, and the errors of reading keys and trust roots */
export function parsePolicy(value: unknown, file: PolicyFile): SignaturePolicy {
  const { what } = file
  let parsed: v.InferOutput<typeof PolicySchema>
  try {
    parsed = check(PolicySchema, value, what)
  } catch (error) {
    throw invalid(what, error instanceof Error ? error.message : String(error), error)
  }
  return {
    fallback: {
      name: 'default',
      kind: parsed.default,
      digest: digestOf(Buffer.from(`default ${parsed.default}`)),
    },
    rules: distinct(
      Object.entries(parsed.scope).map(([name, rule]) => toScopedRule(name, rule, file)),
      what,
    ),
  }
}

type ScopedRule = SignaturePolicy['rules'][number]

function toScopedRule(name: string, text: RuleText, file: PolicyFile): ScopedRule {
  const wrong = (why: string) => invalid(file.what, `scope "${name}": ${why}`)
  return { ...toRule(name, text, file), scope: readScope(name, file, wrong) }
}

/** @throws CONFIG_INVALID for a scope that cannot match any image, since its author meant one that can */
function readScope(text: string, { defaultRegistry }: PolicyFile, wrong: (why: string) => LoamError): Scope {
  const scope = parseScope(text, defaultRegistry)
  if ('invalid' in scope) throw wrong(`no image can match it: ${scope.invalid}`)
  return scope
}

/** Two rules for the same locations would depend on their order. */
function distinct(rules: readonly ScopedRule[], what: string): readonly ScopedRule[] {
  const seen = new Map<string, string>()
  for (const { name, scope } of rules) {
    for (const key of keysOf(scope)) {
      const other = seen.get(key)
      if (other !== undefined) throw invalid(what, `scope "${name}" is the same as scope "${other}"`)
      seen.set(key, name)
    }
  }
  return rules
}

/** Returns one location for each repository: a name of one part on Docker Hub is two. */
function keysOf(scope: Scope): string[] {
  if (scope.kind !== 'registry' || scope.repositories.length === 0) return [JSON.stringify(scope)]
  return scope.repositories.map((repository) => JSON.stringify({ ...scope, repositories: [repository] }))
}

function toRule(name: string, text: RuleText, file: PolicyFile): PolicyRule {
  const { readNamed } = file
  const wrong = (why: string) => invalid(file.what, `scope "${name}": ${why}`)
  const { policy: kind, keys, signed_as: signedAs, trust_root: trustRoot, identities } = text
  if (keys.length + signedAs.length > 0 && kind !== 'cosign')
    throw wrong(`keys and signed_as belong to the policy cosign, and not to ${kind}`)
  if ((trustRoot !== undefined || identities.length > 0) && kind !== 'sigstore')
    throw wrong(`trust_root and identities belong to the policy sigstore, and not to ${kind}`)
  const base = (named: readonly Buffer[]) => ({
    name,
    digest: digestOf(
      Buffer.from(JSON.stringify([EVALUATION_VERSION, name, text, ...named.map((bytes) => digestOf(bytes))])),
    ),
  })
  if (kind === 'cosign') {
    if (keys.length === 0) throw wrong('the policy cosign needs keys')
    const files = keys.map((path) => readNamed(path))
    const parsed = keys.map((path, index) => ({ name: path, key: parseKey(files[index], path, wrong) }))
    const scopes = signedAs.map((signed) => {
      const scope = readScope(signed, file, (why) => wrong(`signed_as "${signed}": ${why}`))
      if (scope.kind !== 'registry') throw wrong(`signed_as "${signed}": a signature names a repository`)
      return scope
    })
    return { ...base(files), kind, keys: parsed, signedAs: scopes }
  }
  if (kind === 'sigstore') {
    if (trustRoot === undefined || identities.length === 0)
      throw wrong('the policy sigstore needs trust_root and identities')
    const root = readNamed(trustRoot)
    return { ...base([root]), kind, trustRoot: parseStrictJson(root, trustRoot), identities }
  }
  return { ...base([]), kind }
}

function parseKey(file: Buffer | undefined, name: string, wrong: (why: string) => LoamError) {
  try {
    return createPublicKey(file ?? '')
  } catch (error) {
    throw wrong(`${name} is not a PEM public key (${String(error)})`)
  }
}

function invalid(what: string, why: string, cause?: unknown): LoamError {
  return new LoamError('CONFIG_INVALID', `read ${what}: ${why}`, {
    cause,
    hint: 'docs/signatures.md describes the file.',
  })
}
