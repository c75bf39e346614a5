/*
 * Regular expressions as clients of containerd write them, matched without backtracking: JavaScript's own engine takes exponential time for
 * some, on the thread that answers everybody. An expression becomes a program, and all paths through it are followed at once (Thompson,
 * CACM 1968), so that a match takes time in proportion to the length of the text times that of the program, whatever they are.
 */
import { type Assertion, type CharacterTest, type ExpressionNode, parseTree } from './expression-tree.ts'

/** Tells whether a text holds what an expression asks for. */
export type Expression = (text: string) => boolean

const MAX_LENGTH = 1000
/** Of a program; what repeats is written out. */
const MAX_INSTRUCTIONS = 2000

/** Returns undefined for a text that is not an expression of RE2, and for one that would be too long a program. */
export function parseExpression(text: string): Expression | undefined {
  if (text.length > MAX_LENGTH) return undefined
  try {
    const program = compile(parseTree(text))
    return (subject) => matches(program, subject)
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

type Instruction =
  | { readonly kind: 'character'; readonly test: CharacterTest }
  | { readonly kind: 'assertion'; readonly assertion: Assertion }
  /** Goes on at all of these. */
  | { readonly kind: 'fork'; readonly to: number[] }
  | { readonly kind: 'match' }

function compile(tree: ExpressionNode): readonly Instruction[] {
  const program: Instruction[] = []
  const emit = (instruction: Instruction): void => {
    if (program.length === MAX_INSTRUCTIONS) throw new SyntaxError('it is too long')
    program.push(instruction)
  }
  const fork = (...to: number[]): number[] => {
    emit({ kind: 'fork', to })
    return to
  }
  const emitNode = (node: ExpressionNode): void => {
    switch (node.kind) {
      case 'character':
      case 'assertion':
        emit(node)
        break
      case 'sequence':
        node.nodes.forEach(emitNode)
        break
      case 'choice': {
        const starts = fork()
        const ends = node.nodes.map((each) => {
          starts.push(program.length)
          emitNode(each)
          return fork()
        })
        for (const end of ends) end.push(program.length)
        break
      }
      case 'repeat':
        emitRepeat(node)
    }
  }
  const emitRepeat = ({ node, min, max }: Extract<ExpressionNode, { kind: 'repeat' }>): void => {
    for (let count = 0; count < min; count += 1) emitNode(node)
    if (max === Infinity) {
      const start = program.length
      const ways = fork(start + 1)
      emitNode(node)
      fork(start)
      ways.push(program.length)
      return
    }
    const exits: number[][] = []
    for (let count = min; count < max; count += 1) {
      exits.push(fork(program.length + 1))
      emitNode(node)
    }
    for (const exit of exits) exit.push(program.length)
  }
  emitNode(tree)
  emit({ kind: 'match' })
  return program
}

function matches(program: readonly Instruction[], text: string): boolean {
  const codes = Array.from(text, (character) => character.codePointAt(0) ?? 0)
  /** The last position that an instruction was reached at, and one more. */
  const reached = new Uint32Array(program.length)
  let pending: number[] = []
  for (let at = 0; at <= codes.length; at += 1) {
    // A match may begin anywhere.
    const ways = [0, ...pending]
    pending = []
    const code = codes[at]
    for (let way = ways.pop(); way !== undefined; way = ways.pop()) {
      const instruction = program[way]
      if (instruction === undefined || reached[way] === at + 1) continue
      reached[way] = at + 1
      if (instruction.kind === 'match') return true
      if (instruction.kind === 'fork') ways.push(...instruction.to)
      else if (instruction.kind === 'assertion') {
        if (holds(instruction.assertion, codes[at - 1], code)) ways.push(way + 1)
      } else if (code !== undefined && instruction.test(code)) pending.push(way + 1)
    }
  }
  return false
}

const NEWLINE = 10

/** Tells whether an assertion holds between two characters; undefined is the end of the text. */
function holds(assertion: Assertion, before: number | undefined, after: number | undefined): boolean {
  switch (assertion) {
    case 'start':
      return before === undefined
    case 'end':
      return after === undefined
    case 'line-start':
      return before === undefined || before === NEWLINE
    case 'line-end':
      return after === undefined || after === NEWLINE
    case 'boundary':
      return isWord(before) !== isWord(after)
    case 'no-boundary':
      return isWord(before) === isWord(after)
  }
}

function isWord(code: number | undefined): boolean {
  return code !== undefined && /^\w$/.test(String.fromCodePoint(code))
}
