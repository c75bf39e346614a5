import { LoamError } from '../errors/index.ts'

/** The authentication that a 401 requires (RFC 9110, 11.6.1; distribution's token page). */
export interface Challenge {
  readonly scheme: 'basic' | 'bearer'
  readonly parameters: ReadonlyMap<string, string>
}

const MAX_HEADER_LENGTH = 8192
// Elements of the list may be empty (RFC 9110, 5.6.1).
const SEPARATORS = /[\s,]*/y
// One challenge parameter: a token, and a token or quoted text. Adjacent parts match different characters, so that it cannot backtrack.
const PARAMETER = /[\s,]*([a-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/iy

/** Parses WWW-Authenticate headers. Bearer is preferred if it can be answered. @throws REGISTRY_RESPONSE if neither Basic nor Bearer is offered */
export function parseChallenges(headers: readonly string[]): Challenge {
  const best = findChallenge(headers)
  if (best !== undefined) return best
  throw new LoamError('REGISTRY_RESPONSE', 'authenticate: the registry asks for neither Basic nor Bearer')
}

/** As `parseChallenges`, undefined when there are no challenges. */
export function findChallenge(headers: readonly string[]): Challenge | undefined {
  const challenges = headers.flatMap(parseHeader)
  return (
    challenges.find(({ scheme, parameters }) => scheme === 'bearer' && parameters.has('realm')) ??
    challenges.find(({ scheme }) => scheme === 'basic') ??
    challenges[0]
  )
}

function parseHeader(header: string): Challenge[] {
  if (header.length > MAX_HEADER_LENGTH) {
    throw new LoamError('REGISTRY_RESPONSE', 'authenticate: the challenge is longer than 8 KiB')
  }
  const challenges: Challenge[] = []
  const scheme = /([a-z0-9_-]+)(?=\s|,|$)/iy
  for (let at = 0; ; ) {
    SEPARATORS.lastIndex = at
    SEPARATORS.test(header)
    at = SEPARATORS.lastIndex
    if (at === header.length) return challenges
    scheme.lastIndex = at
    const name = scheme.exec(header)?.[1]?.toLowerCase()
    if (name === undefined) {
      // Such as the token68 of Negotiate: the next challenge follows the next comma.
      const comma = header.indexOf(',', at)
      if (comma < 0) return challenges
      at = comma + 1
      continue
    }
    at = scheme.lastIndex
    const parameters = new Map<string, string>()
    for (;;) {
      PARAMETER.lastIndex = at
      const match = PARAMETER.exec(header)
      if (match === null) break
      at = PARAMETER.lastIndex
      const value = match[2]?.replaceAll(/\\(.)/g, '$1') ?? match[3] ?? ''
      parameters.set((match[1] ?? '').toLowerCase(), value)
    }
    if (name === 'basic' || name === 'bearer') challenges.push({ scheme: name, parameters })
  }
}
