/*
 * Filters of containerd (pkg/filters): a selection of snapshots by their fields.
 *   filter   = selector { "," selector }                    all have to match
 *   selector = fieldpath [ ( "==" | "!=" | "~=" ) value ]   without an operator: the field is there
 *   field    = name | parent | kind | labels.<key>          parts of a path may be quoted: labels."a.b/c"
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
  const operator = scanner.operator()
  if (operator === undefined) return (info) => read(info) !== undefined
  const value = scanner.value()
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

class Scanner {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  takeOne(character: string): boolean {
    if (this.#text[this.#at] !== character) return false
    this.#at += 1
    return true
  }

  field(): string {
    return this.#quoted() ?? this.#take(/[A-Za-z_][\w]*|[\w/-]+/y) ?? this.#fail('a field')
  }

  operator(): '==' | '!=' | '~=' | undefined {
    this.#take(/\s+/y)
    const found = this.#take(/[=!~]=/y)
    return found === '==' || found === '!=' || found === '~=' ? found : undefined
  }

  value(): string {
    this.#take(/\s+/y)
    return this.#quoted() ?? this.#take(/[^\s,]+/y) ?? this.#fail('a value')
  }

  end(): void {
    if (this.#at < this.#text.length) this.#fail('the end')
  }

  /** As Go writes strings; JSON's escapes are the same except \x and \a. */
  #quoted(): string | undefined {
    if (this.#text[this.#at] !== '"') return undefined
    const found = this.#take(/"(?:[^"\\]|\\.)*"/y)
    if (found === undefined) return this.#fail('the end of a quoted text')
    const plain = found
      .replaceAll(/\\x([0-9a-fA-F]{2})/g, '\\u00$1')
      .replaceAll('\\a', '\\u0007')
      .replaceAll('\\v', '\\u000b')
    try {
      return JSON.parse(plain) as string
    } catch {
      return this.#fail('a quoted text')
    }
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
