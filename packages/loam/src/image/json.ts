import { LoamError } from '../errors/index.ts'

const MAX_DEPTH = 64

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COLON = 0x3a
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d

/**
 * Parses JSON from outside. Stricter than JSON.parse: no key twice in one object (two readers may take
 * different ones: CVE-2021-41190's family), no nesting deeper than 64, valid UTF-8. Neither time nor stack depend on
 * more than the length of the input.
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
  // Before parsing: a parser needs time and stack for each level.
  if (isTooDeep(text)) throw invalid(`it is nested deeper than ${MAX_DEPTH}`)
  let value: unknown
  try {
    // `__proto__` becomes an own key here and is never copied by assignment afterwards.
    value = JSON.parse(text)
  } catch (error) {
    throw invalid('it is not JSON', error)
  }
  const twice = findDuplicateKey(text)
  if (twice !== undefined) throw invalid(`the key ${twice} occurs twice`)
  return value
}

function describeNonJson(bytes: Uint8Array): string | undefined {
  const head = Buffer.from(bytes.subarray(0, 256)).toString('latin1').trimStart().toLowerCase()
  return head.startsWith('<')
    ? 'The response is a web page: is this the address of a registry, or is a proxy or login page in between?'
    : undefined
}

/** Counts brackets outside of strings, in any text. */
function isTooDeep(text: string): boolean {
  let depth = 0
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) at = endOfString(text, at)
    else if (code === OPEN_BRACKET || code === OPEN_BRACE) depth += 1
    else if (code === CLOSE_BRACKET || code === CLOSE_BRACE) depth -= 1
    if (depth > MAX_DEPTH) return true
  }
  return false
}

/** Walks text that JSON.parse has accepted, so that quotes and brackets are known to be well formed. Returns the key as JSON. */
function findDuplicateKey(text: string): string | undefined {
  // One for each open bracket; undefined for a list.
  const open: (Set<string> | undefined)[] = []
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at)
    if (code === OPEN_BRACE) open.push(new Set())
    else if (code === OPEN_BRACKET) open.push(undefined)
    else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) open.pop()
    if (code !== QUOTE) continue
    const end = endOfString(text, at)
    if (isKey(text, end + 1)) {
      const keys = open.at(-1)
      const key = String(JSON.parse(text.slice(at, end + 1)))
      if (keys?.has(key) === true) return JSON.stringify(key.slice(0, 100))
      keys?.add(key)
    }
    at = end
  }
  return undefined
}

/** Returns the position of the closing quote of the string that begins at `start`; the end of the text if there is none. */
function endOfString(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at += 1) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) return at
    if (code === BACKSLASH) at += 1
  }
  return text.length
}

/** In well-formed JSON a string is a key exactly if a colon follows. */
function isKey(text: string, after: number): boolean {
  let at = after
  while (text[at] === ' ' || text[at] === '\n' || text[at] === '\r' || text[at] === '\t') at += 1
  return text.charCodeAt(at) === COLON
}
