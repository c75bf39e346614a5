/*
 * Filters of containerd (pkg/filters): a selection of snapshots by their fields.
 *   filter   = selector { "," selector }                    all have to match
 *   selector = fieldpath [ ( "==" | "!=" | "~=" ) value ]   without an operator: the field is there
 *   field    = name | parent | kind | labels.<key>          parts of a path may be quoted: labels."a.b/c"
 * As in containerd, blanks may be before each token, but not before the "," and "." that end one; a value in quotes is written as in Go, and an expression
 * may also be between / or |.
 */
import { LoamError } from '../errors/index.ts'
import { parseExpression } from './expression.ts'
import type { SnapshotInfo } from './snapshot-info.ts'

type Match = (info: SnapshotInfo) => boolean

/** Limit of all filters of one request: each snapshot is compared with each filter. */
const MAX_LENGTH = 16_384

/** Parses filters into one test, which accepts a snapshot that at least one of them matches; an empty list accepts all. @throws SNAPSHOT_INVALID */
export function parseFilters(filters: readonly string[]): Match {
  const length = filters.reduce((sum, filter) => sum + filter.length + 1, 0)
  if (length > MAX_LENGTH)
    throw new LoamError('SNAPSHOT_INVALID', `parse filters: they have more than ${MAX_LENGTH} characters`)
  const matches = filters.map(parseFilter)
  return (info) => matches.length === 0 || matches.some((match) => match(info))
}

function parseFilter(text: string): Match {
  if (text === '') return () => true
  const scanner = new Scanner(text)
  const selectors = [parseSelector(scanner)]
  while (scanner.takeOne(',')) selectors.push(parseSelector(scanner))
  scanner.end()
  return (info) => selectors.every((select) => select(info))
}

function parseSelector(scanner: Scanner): Match {
  const path = [scanner.field()]
  while (scanner.takeOne('.')) path.push(scanner.field())
  const read = (info: SnapshotInfo) => readField(info, path)
  if (scanner.isAtEndOfSelector()) return (info) => read(info) !== undefined
  const operator = scanner.operator()
  const value = scanner.value(operator === '~=')
  switch (operator) {
    case '==':
      return (info) => read(info) === value
    // A missing field is compared like an empty text.
    case '!=':
      return (info) => (read(info) ?? '') !== value
    case '~=': {
      // An invalid expression matches nothing, as in containerd.
      const expression = parseExpression(value)
      return (info) => expression?.(read(info) ?? '') ?? false
    }
  }
}

function readField(info: SnapshotInfo, [first = '', ...rest]: readonly string[]): string | undefined {
  switch (first) {
    case 'name':
      return info.name
    case 'parent':
      return info.parent
    case 'kind':
      return info.kind
    case 'labels': {
      const key = rest.join('.')
      return Object.hasOwn(info.labels, key) ? info.labels[key] : undefined
    }
    default:
      return undefined
  }
}

const BLANKS = /\p{White_Space}*/uy
const FIELD = /\w+/y
const OPERATOR = /[=!~]+/y
/** Characters that can be seen; the first one of a value may be any that begins no other token. */
const VALUE = /[^,.=!~"\/\|\p{White_Space}][[\p{L}\p{M}\p{N}\p{P}\p{S}]--[,]]*/vy
const QUOTED =
  /(["\/\|])(?:(?!\1)[^\\\n]|\\(?:[abfnrtv\\]|\1|[0-3][0-7]{2}|x[\da-fA-F]{2}|u[\da-fA-F]{4}|U(?:000[\da-fA-F]|0010)[\da-fA-F]{4}))*\1/vy
const ESCAPE = /\\(?:[0-7]{3}|x..|u.{4}|U.{8}|[^])/gu
/** Filters of containerd have neither; the second one stands for bytes that are no text. */
const ILLEGAL = /[\0\ufffd]/

/** The bytes of escapes of one letter. */
const CONTROLS: Readonly<Record<string, string>> = {
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
}

class Scanner {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
    if (ILLEGAL.test(text)) this.#fail('no character that is not text')
  }

  takeOne(character: string): boolean {
    if (this.#text[this.#at] !== character) return false
    this.#at += 1
    return true
  }

  isAtEndOfSelector(): boolean {
    return this.#at === this.#text.length || this.#text[this.#at] === ','
  }

  field(): string {
    this.#take(BLANKS)
    return this.#quoted(false) ?? this.#take(FIELD) ?? this.#fail('a field')
  }

  operator(): '==' | '!=' | '~=' {
    this.#take(BLANKS)
    const found = this.#take(OPERATOR)
    return found === '==' || found === '!=' || found === '~=' ? found : this.#fail('an operator')
  }

  value(isExpression: boolean): string {
    this.#take(BLANKS)
    return this.#quoted(isExpression) ?? this.#take(VALUE) ?? this.#fail('a value')
  }

  end(): void {
    if (this.#at < this.#text.length) this.#fail('the end')
  }

  #quoted(isExpression: boolean): string | undefined {
    const quote = this.#text[this.#at]
    if (quote !== '"' && !(isExpression && (quote === '/' || quote === '|'))) return undefined
    const found = this.#take(QUOTED) ?? this.#fail('a quoted text')
    return unquote(found.slice(1, -1))
  }

  #take(expression: RegExp): string | undefined {
    expression.lastIndex = this.#at
    const [found] = expression.exec(this.#text) ?? []
    if (found !== undefined) this.#at += found.length
    return found
  }

  #fail(expected: string): never {
    throw new LoamError(
      'SNAPSHOT_INVALID',
      `parse filter ${JSON.stringify(this.#text.slice(0, 200))}: expected ${expected} at ${this.#at}`,
    )
  }
}

/** Returns what escapes of Go mean: \x and octal ones are bytes, which may be parts of a character. */
function unquote(text: string): string {
  if (!text.includes('\\')) return text
  // Each UTF-8 byte as one character.
  const bytes = (plain: string) => Buffer.from(plain).toString('latin1')
  let unquoted = ''
  let end = 0
  for (const { 0: escape, index } of text.matchAll(ESCAPE)) {
    unquoted += bytes(text.slice(end, index)) + bytesOfEscape(escape.slice(1), bytes)
    end = index + escape.length
  }
  return Buffer.from(unquoted + bytes(text.slice(end)), 'latin1').toString()
}

function bytesOfEscape(escape: string, bytes: (plain: string) => string): string {
  const [kind = ''] = escape
  if (kind === 'x') return String.fromCharCode(Number.parseInt(escape.slice(1), 16))
  if (kind === 'u' || kind === 'U') return bytes(String.fromCodePoint(Number.parseInt(escape.slice(1), 16)))
  if (/[0-7]/.test(kind)) return String.fromCharCode(Number.parseInt(escape, 8))
  return bytes(CONTROLS[kind] ?? kind)
}
