import * as v from 'valibot'

const ClaimsSchema = v.object({ exp: v.nullish(v.number()), nbf: v.nullish(v.number()) })

/**
 * Returns the problem of the times of a refused token; undefined if there is none, and for a token that is not a JWT (RFC 7519).
 * Only refused tokens are checked: a wrong clock on this machine must not keep a token from being sent.
 */
export function tokenTimeFault(token: string, nowMs: number): string | undefined {
  const claims = readClaims(token)
  if (claims === undefined) return undefined
  const { exp, nbf } = claims
  const at = (seconds: number) => new Date(seconds * 1000).toISOString()
  const isDate = (seconds: number) => Math.abs(seconds) < 8.64e12
  if (typeof exp === 'number' && isDate(exp) && exp * 1000 <= nowMs) return `has expired (${at(exp)})`
  if (typeof nbf === 'number' && isDate(nbf) && nbf * 1000 > nowMs) return `is not valid before ${at(nbf)}`
  return undefined
}

function readClaims(token: string): v.InferOutput<typeof ClaimsSchema> | undefined {
  const [, claims, signature, more] = token.split('.')
  if (claims === undefined || signature === undefined || more !== undefined) return undefined
  try {
    const parsed = v.safeParse(ClaimsSchema, JSON.parse(Buffer.from(claims, 'base64url').toString('utf8')))
    return parsed.success ? parsed.output : undefined
  } catch {
    return undefined
  }
}
