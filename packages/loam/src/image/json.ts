import { LoamError } from '../errors/index.ts'

const MAX_DEPTH = 64

/**
 * Parses JSON from outside. Stricter than JSON.parse: no key twice in one object (two readers may take
 * different ones: CVE-2021-41190's family), no nesting deeper than 64, valid UTF-8.
 * @throws DOCUMENT_INVALID
 */
export function parseStrictJson(bytes: Uint8Array, what: string): unknown {
  const invalid = (why: string, cause?: unknown) =>
    new LoamError('DOCUMENT_INVALID', `parse ${what}: ${why}`, {
      cause,
      hint: describeNonJson(bytes),
    })
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    throw invalid('it is not UTF-8', error)
  }
  let value: unknown
  try {
    // `__proto__` becomes an own key here and is never copied by assignment afterwards.
    value = JSON.parse(text)
  } catch (error) {
    throw invalid('it is not JSON', error)
  }
  const problem = findDuplicateKey(text)
  if (problem !== undefined) throw invalid(problem)
  return value
}

function describeNonJson(bytes: Uint8Array): string | undefined {
  const head = Buffer.from(bytes.subarray(0, 256)).toString('latin1').trimStart().toLowerCase()
  return head.startsWith('<')
    ? 'The answer is a web page: is this the address of a registry, or is a proxy or login page in between?'
    : undefined
}

/** Walks text that JSON.parse has accepted, so that quotes and brackets are known to be well formed. */
function findDuplicateKey(text: string): string | undefined {
  const keys: (Set<string> | undefined)[] = []
  const token = /"(?:[^"\\]|\\.)*"|[{}[\]]/g
  for (let match = token.exec(text); match !== null; match = token.exec(text)) {
    const [found] = match
    if (found === '{' || found === '[') {
      if (keys.length >= MAX_DEPTH) return `it is nested deeper than ${MAX_DEPTH}`
      keys.push(found === '{' ? new Set() : undefined)
    } else if (found === '}' || found === ']') {
      keys.pop()
    } else if (isKey(text, token.lastIndex)) {
      const own = keys.at(-1)
      const key = String(JSON.parse(found))
      if (own?.has(key) === true) return `the key ${JSON.stringify(key)} is there twice`
      own?.add(key)
    }
  }
  return undefined
}

/** In well-formed JSON a string is a key just when a colon follows. */
function isKey(text: string, after: number): boolean {
  let at = after
  while (text[at] === ' ' || text[at] === '\n' || text[at] === '\r' || text[at] === '\t') at += 1
  return text[at] === ':'
}
