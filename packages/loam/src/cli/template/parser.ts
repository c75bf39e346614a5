/*
 * Templates as `docker --format` and `podman --format` take them: a part of Go's text/template.
 *
 *   {{.Name}} {{.Config.Env}} {{$x}}       fields and variables
 *   {{json .}} {{.Names | join ","}}       functions and pipes, (…) for nesting
 *   {{if …}} {{else if …}} {{else}} {{with …}} {{range $i, $v := …}} {{end}} {{$x := …}} {{- … -}}, and comments
 *
 * Source: Go's text/template; docker/cli's templates.
 */
import { LoamError } from '../../errors/index.ts'

/** An operand: a value, and the fields that are read of it. */
export interface Operand {
  readonly base:
    | { readonly kind: 'dot' }
    | { readonly kind: 'variable'; readonly name: string }
    | { readonly kind: 'literal'; readonly value: unknown }
    | { readonly kind: 'function'; readonly name: string }
    | { readonly kind: 'pipe'; readonly pipe: Pipe }
  readonly fields: readonly string[]
}

/** Calls, each with the result of the one before as its last argument. */
export interface Pipe {
  /** Variables that get the result: of `range` the index and the element. */
  readonly variables: readonly string[]
  readonly calls: readonly (readonly Operand[])[]
}

/** A part of a template. */
export type Part =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'output'; readonly pipe: Pipe }
  | {
      readonly kind: 'if' | 'with' | 'range'
      readonly pipe: Pipe
      readonly parts: readonly Part[]
      readonly otherwise: readonly Part[]
    }

const MAX_LENGTH = 64 << 10
const MAX_DEPTH = 50

/** Parses a template. @throws USAGE */
export function parseTemplate(text: string): readonly Part[] {
  if (text.length > MAX_LENGTH) throw invalid(`it is longer than ${MAX_LENGTH} characters`)
  const parser = new Parser(splitTemplate(text))
  const { parts, ending } = parser.parts(0)
  if (ending !== undefined) throw invalid(`{{${ending}}} without {{if}}, {{with}} or {{range}}`)
  return parts
}

/** Creates the error of a template. Details: the field that it names and that there is not. */
export function invalid(
  why: string,
  details: { readonly field?: string; readonly function?: string } = {},
): LoamError {
  return new LoamError('USAGE', `read --format: ${why}`, {
    details,
    hint: "Write a template, for example '{{.ID}} {{.Name}}' or '{{json .}}'; or json, or table.",
  })
}

type Piece =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'action'; readonly tokens: Token[] }

/** Splits a template into its text and its actions. */
function splitTemplate(text: string): Piece[] {
  const pieces: Piece[] = []
  let rest = text
  let isTrimmed = false
  for (;;) {
    const start = rest.indexOf('{{')
    const before = start < 0 ? rest : rest.slice(0, start)
    const own = isTrimmed ? before.trimStart() : before
    if (start < 0) return [...pieces, { kind: 'text', text: own }]
    const end = actionEnd(rest, start + 2)
    const action = rest.slice(start + 2, end)
    const [, left = '', words = '', right = ''] = /^(-(?=\s))?(.*?)(\s-)?$/s.exec(action) ?? []
    pieces.push({ kind: 'text', text: left === '' ? own : own.trimEnd() })
    if (!/^\s*\/\*.*\*\/\s*$/s.test(words)) pieces.push({ kind: 'action', tokens: tokensOf(words) })
    isTrimmed = right !== ''
    rest = rest.slice(end + 2)
  }
}

/** Braces in a string do not end an action. */
function actionEnd(text: string, from: number): number {
  const quoted = /"(?:[^"\\\n]|\\.)*"|`[^`]*`|\}\}/g
  quoted.lastIndex = from
  for (let match = quoted.exec(text); match !== null; match = quoted.exec(text))
    if (match[0] === '}}') return match.index
  throw invalid(`an action is not closed: ${text.slice(from - 2, from + 30)}`)
}

type Token =
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'number'; readonly value: number }
  | { readonly kind: 'fields' | 'variable' | 'word'; readonly text: string }
  | { readonly kind: '(' | ')' | '|' | ',' | ':=' | '=' }

const TOKENS = new RegExp(
  [
    String.raw`(?<space>\s+)`,
    String.raw`(?<quoted>"(?:[^"\\]|\\.)*")`,
    '(?<raw>`[^`]*`)',
    String.raw`(?<number>-?\d+(?:\.\d+)?)`,
    String.raw`(?<fields>\.(?:[\p{L}_][\p{L}\p{N}_]*)?)`,
    String.raw`(?<variable>\$[\p{L}\p{N}_]*)`,
    String.raw`(?<word>[\p{L}_][\p{L}\p{N}_]*)`,
    String.raw`(?<sign>:=|[()|,=])`,
  ].join('|'),
  'uy',
)

function tokensOf(text: string): Token[] {
  const tokens: Token[] = []
  TOKENS.lastIndex = 0
  let isJoined = false
  for (let at = 0; at < text.length; at = TOKENS.lastIndex) {
    TOKENS.lastIndex = at
    const groups = TOKENS.exec(text)?.groups
    if (groups === undefined) throw invalid(`unexpected ${JSON.stringify(text.slice(at, at + 10))}`)
    const token = groups['space'] === undefined ? tokenOf(groups) : undefined
    const last = tokens.at(-1)
    // `.A.B` and `$x.A` are one operand: only what follows without a space belongs to it.
    if (token?.kind === 'fields' && isJoined && joins(last))
      tokens.splice(-1, 1, { ...last, text: `${last.text}${token.text}` })
    else if (token !== undefined) tokens.push(token)
    isJoined = token !== undefined
  }
  return tokens
}

function joins(token: Token | undefined): token is Extract<Token, { kind: 'fields' | 'variable' | 'word' }> {
  return token?.kind === 'fields' || token?.kind === 'variable'
}

function tokenOf(groups: Readonly<Record<string, string | undefined>>): Token {
  const { quoted, raw, number, fields, variable, word, sign } = groups
  if (quoted !== undefined) return { kind: 'string', value: unquote(quoted) }
  if (raw !== undefined) return { kind: 'string', value: raw.slice(1, -1) }
  if (number !== undefined) return { kind: 'number', value: Number(number) }
  if (fields !== undefined) return { kind: 'fields', text: fields }
  if (variable !== undefined) return { kind: 'variable', text: variable }
  if (word !== undefined) return { kind: 'word', text: word }
  return { kind: sign as ')' }
}

function unquote(text: string): string {
  try {
    return JSON.parse(text.replaceAll('\n', String.raw`\n`).replaceAll('\t', String.raw`\t`)) as string
  } catch {
    throw invalid(`${text} is not a string`)
  }
}

class Parser {
  readonly #pieces: readonly Piece[]
  #at = 0

  constructor(pieces: readonly Piece[]) {
    this.#pieces = pieces
  }

  /** Parses up to the end, or up to `{{end}}` or `{{else …}}`. */
  parts(depth: number): {
    readonly parts: readonly Part[]
    readonly ending: string | undefined
    readonly rest: Token[]
  } {
    if (depth > MAX_DEPTH) throw invalid(`more than ${MAX_DEPTH} nested blocks`)
    const parts: Part[] = []
    while (this.#at < this.#pieces.length) {
      const piece = this.#pieces[this.#at]
      this.#at += 1
      if (piece === undefined) break
      if (piece.kind === 'text') {
        if (piece.text !== '') parts.push(piece)
        continue
      }
      const [first, ...rest] = piece.tokens
      const word = first?.kind === 'word' ? first.text : ''
      if (word === 'end' || word === 'else') return { parts, ending: word, rest }
      if (word === 'if' || word === 'with' || word === 'range') parts.push(this.#block(word, rest, depth))
      else parts.push({ kind: 'output', pipe: parsePipe(piece.tokens) })
    }
    return { parts, ending: undefined, rest: [] }
  }

  #block(kind: 'if' | 'with' | 'range', words: Token[], depth: number): Part {
    const pipe = parsePipe(words)
    const { parts, ending, rest } = this.parts(depth + 1)
    if (ending === undefined) throw invalid(`{{${kind}}} has no {{end}}`)
    return { kind, pipe, parts, otherwise: ending === 'end' ? [] : this.#otherwise(kind, rest, depth) }
  }

  #otherwise(kind: string, [first, ...words]: Token[], depth: number): readonly Part[] {
    if (first?.kind === 'word' && (first.text === 'if' || first.text === 'with'))
      return [this.#block(first.text, words, depth + 1)]
    const { parts, ending } = this.parts(depth + 1)
    if (ending !== 'end') throw invalid(`{{${kind}}} has no {{end}}`)
    return parts
  }
}

function parsePipe(tokens: readonly Token[]): Pipe {
  const assigned = tokens.findIndex(({ kind }) => kind === ':=' || kind === '=')
  const variables = tokens
    .slice(0, Math.max(assigned, 0))
    .flatMap((token) => (token.kind === 'variable' ? [token.text] : []))
  // Taken from its end.
  const rest = tokens.slice(assigned + 1).toReversed()
  const calls = parseCalls(rest, 0)
  if (rest.length > 0) throw invalid('a parenthesis is closed that is not open')
  return { variables, calls }
}

/** Takes the tokens of a pipe, the last one first, up to a closing parenthesis. */
function parseCalls(tokens: Token[], depth: number): Operand[][] {
  if (depth > MAX_DEPTH) throw invalid(`more than ${MAX_DEPTH} nested parentheses`)
  const calls: Operand[][] = [[]]
  for (let token = tokens.at(-1); token !== undefined && token.kind !== ')'; token = tokens.at(-1)) {
    tokens.pop()
    if (token.kind === '|') calls.push([])
    else calls.at(-1)?.push(parseOperand(token, tokens, depth))
  }
  if (calls.some((call) => call.length === 0)) throw invalid('an action is empty')
  return calls
}

const LITERALS: Readonly<Record<string, unknown>> = { true: true, false: false, nil: null }

function parseOperand(token: Token, rest: Token[], depth: number): Operand {
  switch (token.kind) {
    case 'string':
    case 'number':
      return { base: { kind: 'literal', value: token.value }, fields: [] }
    case 'fields':
      return { base: { kind: 'dot' }, fields: fieldsOf(token.text) }
    case 'variable': {
      const [name = '$', ...fields] = token.text.split('.')
      return { base: { kind: 'variable', name }, fields }
    }
    case 'word':
      return Object.hasOwn(LITERALS, token.text)
        ? { base: { kind: 'literal', value: LITERALS[token.text] }, fields: [] }
        : { base: { kind: 'function', name: token.text }, fields: [] }
    case '(': {
      const calls = parseCalls(rest, depth + 1)
      if (rest.pop()?.kind !== ')') throw invalid('a parenthesis is not closed')
      const next = rest.at(-1)
      const isField = next?.kind === 'fields' && next.text !== '.'
      if (isField) rest.pop()
      return {
        base: { kind: 'pipe', pipe: { variables: [], calls } },
        fields: isField ? fieldsOf(next.text) : [],
      }
    }
    case ')':
    case '|':
    case ',':
    case ':=':
    case '=':
      throw invalid(`unexpected ${token.kind}`)
  }
}

function fieldsOf(text: string): string[] {
  return text.split('.').filter((name) => name !== '')
}
