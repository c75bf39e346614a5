import { LoamError } from 'loamfs'
import type { PodTokens } from 'loamfs/internal'

/** Where the kubelet puts the tokens that `spec.tokenRequests` of the CSIDriver names. */
export const TOKENS = 'csi.storage.k8s.io/serviceAccount.tokens'

type Fields = Readonly<Record<string, string>>

/**
 * Returns the tokens of a volume's pod, for one pull; undefined if the kubelet sends none. Since Kubernetes 1.35 they may be among the secrets
 * (`serviceAccountTokenInSecrets`). @throws CREDENTIALS_INVALID
 */
export function podTokensOf(volumeContext: Fields, secrets: Fields): PodTokens | undefined {
  const text = secrets[TOKENS] ?? volumeContext[TOKENS]
  return text === undefined || text === '' ? undefined : parseTokens(text)
}

/** `{ "AUDIENCE": { "token": "…", "expirationTimestamp": "…" } }` */
function parseTokens(text: string): PodTokens {
  const tokens = new Map<string, string>()
  for (const [audience, value] of Object.entries(parse(text))) {
    const token: unknown =
      typeof value === 'object' && value !== null && 'token' in value ? value.token : undefined
    if (typeof token !== 'string') throw notTokens()
    tokens.set(audience, token)
  }
  return tokens
}

function parse(text: string): Readonly<Record<string, unknown>> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    // The parser's message would quote a token.
    value = undefined
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw notTokens()
  return value as Readonly<Record<string, unknown>>
}

function notTokens(): LoamError {
  return new LoamError('CREDENTIALS_INVALID', `read ${TOKENS}: they are not tokens by audience`)
}
