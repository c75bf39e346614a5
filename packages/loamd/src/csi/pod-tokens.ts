import { LoamError } from 'loamfs'
import type { PodTokens } from 'loamfs/internal'
import { parseSecretObject } from './secret-json.ts'

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
  const value = parseSecretObject(text)
  if (value === undefined) throw notTokens()
  const tokens = new Map<string, string>()
  for (const [audience, given] of Object.entries<unknown>({ ...value })) {
    const token = typeof given === 'object' && given !== null && 'token' in given ? given.token : undefined
    if (typeof token !== 'string') throw notTokens()
    tokens.set(audience, token)
  }
  return tokens
}

function notTokens(): LoamError {
  return new LoamError('CREDENTIALS_INVALID', `read ${TOKENS}: they are not tokens by audience`)
}
