/*
 * The syntax of RE2 (https://github.com/google/re2/wiki/Syntax), which Go's regexp has, as a tree. What only tells where a match is and not
 * whether there is one (names of groups, lazy quantifiers) is read and means nothing.
 */

/** As Go has it. */
const MAX_REPEAT = 1000
const MAX_DEPTH = 100

export type Assertion = 'start' | 'end' | 'line-start' | 'line-end' | 'boundary' | 'no-boundary'
export type CharacterTest = (code: number) => boolean

export type ExpressionNode =
  | { readonly kind: 'character'; readonly test: CharacterTest }
  | { readonly kind: 'assertion'; readonly assertion: Assertion }
  | { readonly kind: 'sequence' | 'choice'; readonly nodes: readonly ExpressionNode[] }
  | { readonly kind: 'repeat'; readonly node: ExpressionNode; readonly min: number; readonly max: number }

/** @throws SyntaxError */
export function parseTree(text: string): ExpressionNode {
  return new Parser(text).parse()
}

interface Flags {
  readonly i: boolean
  readonly m: boolean
  readonly s: boolean
}

const ESCAPED_ASSERTIONS: Readonly<Record<string, Assertion>> = {
  A: 'start',
  z: 'end',
  b: 'boundary',
  B: 'no-boundary',
}
const ESCAPED_CHARACTERS: Readonly<Record<string, number>> = { a: 7, f: 12, t: 9, n: 10, r: 13, v: 11 }
/** Of ASCII alone, unlike JavaScript's. */
const CLASSES: Readonly<Record<string, string>> = { d: '0-9', s: '\\t\\n\\f\\r ', w: '0-9A-Za-z_' }
const POSIX: Readonly<Record<string, string>> = {
  alnum: '0-9A-Za-z',
  alpha: 'A-Za-z',
  ascii: '\\x00-\\x7F',
  blank: '\\t ',
  cntrl: '\\x00-\\x1F\\x7F',
  digit: '0-9',
  graph: '\\x21-\\x7E',
  lower: 'a-z',
  print: '\\x20-\\x7E',
  punct: '\\x21-\\x2F\\x3A-\\x40\\x5B-\\x60\\x7B-\\x7E',
  space: '\\t\\n\\v\\f\\r ',
  upper: 'A-Z',
  word: '0-9A-Za-z_',
  xdigit: '0-9A-Fa-f',
}

/** Reads an expression from front to back, each character once. */
class Parser {
  readonly #characters: readonly string[]
  #at = 0
  #depth = 0
  #flags: Flags = { i: false, m: false, s: false }

  constructor(text: string) {
    this.#characters = Array.from(text)
  }

  parse(): ExpressionNode {
    const node = this.#choice()
    if (this.#at < this.#characters.length) throw new SyntaxError('a bracket is closed that was not opened')
    return node
  }

  #choice(): ExpressionNode {
    const nodes = [this.#sequence()]
    while (this.#take('|')) nodes.push(this.#sequence())
    return { kind: 'choice', nodes }
  }

  #sequence(): ExpressionNode {
    const nodes: ExpressionNode[] = []
    for (let next = this.#peek(); next !== undefined && next !== '|' && next !== ')'; next = this.#peek()) {
      const atom = this.#atom()
      if (atom !== undefined) nodes.push(this.#repeated(atom))
    }
    return { kind: 'sequence', nodes }
  }

  /** Undefined for what only sets flags. */
  #atom(): ExpressionNode | undefined {
    const character = this.#next()
    switch (character) {
      case '(':
        return this.#group()
      case '[':
        return { kind: 'character', test: this.#class() }
      case '.':
        return { kind: 'character', test: this.#flags.s ? () => true : (code) => code !== 10 }
      case '^':
        return { kind: 'assertion', assertion: this.#flags.m ? 'line-start' : 'start' }
      case '$':
        return { kind: 'assertion', assertion: this.#flags.m ? 'line-end' : 'end' }
      case '\\':
        return this.#escape()
      case '*':
      case '+':
      case '?':
        throw new SyntaxError('there is nothing to repeat')
      default:
        return this.#literal(character)
    }
  }

  #group(): ExpressionNode | undefined {
    this.#depth += 1
    if (this.#depth > MAX_DEPTH) throw new SyntaxError('it is nested too deep')
    const before = this.#flags
    if (this.#take('?') && !this.#takeName()) {
      this.#flags = this.#readFlags()
      if (this.#take(')')) {
        this.#depth -= 1
        return undefined
      }
      this.#expect(':')
    }
    const node = this.#choice()
    this.#expect(')')
    this.#flags = before
    this.#depth -= 1
    return node
  }

  /** `P<name>` and `<name>`. */
  #takeName(): boolean {
    const start = this.#at
    this.#take('P')
    if (!this.#take('<')) {
      this.#at = start
      return false
    }
    while (!this.#take('>'))
      if (!/\w/.test(this.#next())) throw new SyntaxError('the name of a group is invalid')
    return true
  }

  /** `ims-U` up to the colon or the bracket; U changes nothing that is asked for here. */
  #readFlags(): Flags {
    let isOn = true
    const flags = { ...this.#flags }
    for (let next = this.#peek(); next !== ':' && next !== ')'; next = this.#peek()) {
      const flag = this.#next()
      if (flag === '-' && isOn) isOn = false
      else if (flag === 'i' || flag === 'm' || flag === 's') flags[flag] = isOn
      else if (flag !== 'U') throw new SyntaxError(`there is no flag ${flag}`)
    }
    return flags
  }

  #repeated(atom: ExpressionNode): ExpressionNode {
    const bounds = this.#bounds()
    if (bounds === undefined) return atom
    // Lazy or not, it is the same texts.
    this.#take('?')
    if (this.#bounds() !== undefined) throw new SyntaxError('a repetition is repeated')
    return { kind: 'repeat', node: atom, ...bounds }
  }

  #bounds(): { min: number; max: number } | undefined {
    if (this.#take('*')) return { min: 0, max: Infinity }
    if (this.#take('+')) return { min: 1, max: Infinity }
    if (this.#take('?')) return { min: 0, max: 1 }
    if (this.#peek() !== '{') return undefined
    // Otherwise the bracket is a character.
    const [whole, low, comma, high] =
      /^\{(\d{1,9})(,(\d{0,9}))?\}/.exec(this.#characters.slice(this.#at, this.#at + 25).join('')) ?? []
    if (whole === undefined) return undefined
    this.#at += whole.length
    const min = Number(low)
    const max = comma === undefined ? min : high === '' ? Infinity : Number(high)
    if (min > max || min > MAX_REPEAT || (max > MAX_REPEAT && max !== Infinity))
      throw new SyntaxError('a repetition is too large')
    return { min, max }
  }

  #escape(): ExpressionNode {
    const next = this.#peek() ?? ''
    const assertion = ESCAPED_ASSERTIONS[next]
    if (assertion !== undefined) {
      this.#at += 1
      return { kind: 'assertion', assertion }
    }
    if (this.#take('Q')) return this.#quoted()
    const set = this.#escapedSet()
    if (set !== undefined) return { kind: 'character', test: this.#testOf(`[${set}]`) }
    return this.#literal(String.fromCodePoint(this.#escapedCharacter()))
  }

  /** `\Q…\E`: as it is written. */
  #quoted(): ExpressionNode {
    const nodes: ExpressionNode[] = []
    while (this.#at < this.#characters.length) {
      if (this.#peek() === '\\' && this.#characters[this.#at + 1] === 'E') {
        this.#at += 2
        break
      }
      nodes.push(this.#literal(this.#next()))
    }
    // What repeats is the last character.
    const last = nodes.pop()
    if (last !== undefined) nodes.push(this.#repeated(last))
    return { kind: 'sequence', nodes }
  }

  /** Returns `\d` and its like, and properties of Unicode, as JavaScript has them in a class. */
  #escapedSet(): string | undefined {
    const letter = this.#peek() ?? ''
    const set = CLASSES[letter.toLowerCase()]
    if (set !== undefined) {
      this.#at += 1
      return letter === letter.toLowerCase() ? set : `[^${set}]`
    }
    if (letter !== 'p' && letter !== 'P') return undefined
    this.#at += 1
    let name = this.#next()
    if (name === '{') for (name = ''; !this.#take('}'); ) name += this.#next()
    const isNegated = (letter === 'P') !== name.startsWith('^')
    const property = name.replace(/^\^/, '')
    if (!/^\w+$/.test(property)) throw new SyntaxError('a property is invalid')
    const isCategory = property.length <= 2
    return `\\${isNegated ? 'P' : 'p'}{${isCategory ? property : `Script=${property}`}}`
  }

  #escapedCharacter(): number {
    const letter = this.#next()
    const known = ESCAPED_CHARACTERS[letter]
    if (known !== undefined) return known
    if (letter === 'x') {
      let hex = this.#take('{') ? '' : this.#next() + this.#next()
      if (hex === '') while (!this.#take('}')) hex += this.#next()
      const code = /^[0-9a-fA-F]{1,6}$/.test(hex) ? Number.parseInt(hex, 16) : Infinity
      if (code > 0x10ffff) throw new SyntaxError('a character is invalid')
      return code
    }
    if (/[0-7]/.test(letter)) {
      let octal = letter
      while (octal.length < 3 && /[0-7]/.test(this.#peek() ?? '')) octal += this.#next()
      // Otherwise it refers to a group, which no engine without backtracking can.
      if (letter !== '0' && octal.length === 1) throw new SyntaxError('references are not known')
      return Number.parseInt(octal, 8)
    }
    if (/[A-Za-z0-9]/.test(letter)) throw new SyntaxError(`there is no escape ${letter}`)
    return letter.codePointAt(0) ?? 0
  }

  /** What stands between `[` and `]`. */
  #class(): CharacterTest {
    const isNegated = this.#take('^')
    let source = ''
    for (let isFirst = true; isFirst || this.#peek() !== ']'; isFirst = false) {
      const set = this.#posix() ?? (this.#peek() === '\\' ? this.#classEscape() : undefined)
      if (set !== undefined && typeof set === 'string') {
        source += set
        continue
      }
      const low = set ?? this.#next().codePointAt(0) ?? 0
      let high = low
      if (this.#peek() === '-' && this.#characters[this.#at + 1] !== ']') {
        this.#at += 1
        const end = this.#peek() === '\\' ? this.#classEscape() : (this.#next().codePointAt(0) ?? 0)
        if (typeof end !== 'number' || end < low) throw new SyntaxError('a range is invalid')
        high = end
      }
      source += `\\u{${low.toString(16)}}-\\u{${high.toString(16)}}`
    }
    this.#expect(']')
    const test = this.#testOf(`[${source}]`)
    return isNegated ? (code) => !test(code) : test
  }

  /** A set as text, or one character. */
  #classEscape(): string | number {
    this.#at += 1
    return this.#escapedSet() ?? this.#escapedCharacter()
  }

  #posix(): string | undefined {
    if (this.#peek() !== '[' || this.#characters[this.#at + 1] !== ':') return undefined
    const [whole, not, name = ''] =
      /^\[:(\^?)([a-z]{1,9}):\]/.exec(this.#characters.slice(this.#at, this.#at + 15).join('')) ?? []
    const set = Object.hasOwn(POSIX, name) ? POSIX[name] : undefined
    if (whole === undefined || set === undefined) throw new SyntaxError('a class is invalid')
    this.#at += whole.length
    return not === '' ? set : `[^${set}]`
  }

  #literal(character: string): ExpressionNode {
    const wanted = character.codePointAt(0) ?? 0
    const test = this.#flags.i
      ? this.#testOf(`[\\u{${wanted.toString(16)}}]`)
      : (code: number) => code === wanted
    return { kind: 'character', test }
  }

  /** One character at a time, so that JavaScript's engine has nowhere to go back to. */
  #testOf(source: string): CharacterTest {
    const expression = new RegExp(`^${source}$`, this.#flags.i ? 'iv' : 'v')
    const known = new Map<number, boolean>()
    return (code) => {
      const answer = known.get(code) ?? expression.test(String.fromCodePoint(code))
      if (known.size < 256) known.set(code, answer)
      return answer
    }
  }

  #peek(): string | undefined {
    return this.#characters[this.#at]
  }

  #next(): string {
    const character = this.#characters[this.#at]
    if (character === undefined) throw new SyntaxError('it ends too early')
    this.#at += 1
    return character
  }

  #take(character: string): boolean {
    if (this.#peek() !== character) return false
    this.#at += 1
    return true
  }

  #expect(character: string): void {
    if (!this.#take(character)) throw new SyntaxError(`${character} is missing`)
  }
}
