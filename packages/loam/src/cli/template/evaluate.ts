import { Budget, STEP } from './budget.ts'
import { FUNCTIONS, READ_IN_PART } from './functions.ts'
import { invalid, type Operand, type Part, parseTemplate, type Pipe } from './parser.ts'
import { entriesOf, fieldOf, isTrue, printed } from './values.ts'

/** Characters of all results of a template. */
const MAX_OUTPUT = 64 << 20

/** A parsed template: returns its text for a value. @throws USAGE for unknown fields and functions, and for one that takes too long */
export type Template = (value: unknown) => string

/** Parses a template as `docker --format` takes it. @throws USAGE */
export function createTemplate(text: string): Template {
  const parts = parseTemplate(text)
  let length = 0
  return (value) => {
    const output: string[] = []
    writeParts(parts, { dot: value, variables: new Map([['$', value]]), output, budget: new Budget() })
    const result = output.join('')
    length += result.length
    if (length > MAX_OUTPUT) throw invalid(`its results are longer than ${MAX_OUTPUT} characters`)
    return result
  }
}

interface Scope {
  readonly dot: unknown
  readonly variables: Map<string, unknown>
  readonly output: string[]
  readonly budget: Budget
}

function writeParts(parts: readonly Part[], scope: Scope): void {
  for (const part of parts) writePart(part, scope)
}

function writePart(part: Part, scope: Scope): void {
  scope.budget.spend(STEP)
  if (part.kind === 'text') {
    write(part.text, scope)
  } else if (part.kind === 'output') {
    const value = evaluate(part.pipe, scope)
    if (part.pipe.variables.length === 0) write(value, scope)
    else assign(part.pipe, [value], scope)
  } else if (part.kind === 'range') {
    writeRange(part, scope)
  } else {
    const value = evaluate(part.pipe, scope)
    const inner = innerOf(scope)
    assign(part.pipe, [value], inner)
    if (isTrue(value, scope.budget))
      writeParts(part.parts, part.kind === 'with' ? { ...inner, dot: value } : inner)
    else writeParts(part.otherwise, inner)
  }
}

function writeRange(part: Extract<Part, { kind: 'range' | 'if' | 'with' }>, scope: Scope): void {
  const all = evaluate(part.pipe, scope)
  scope.budget.spendEntries(all)
  const entries = entriesOf(all)
  for (const [key, value] of entries) {
    const inner = { ...innerOf(scope), dot: value }
    assign(part.pipe, part.pipe.variables.length > 1 ? [key, value] : [value], inner)
    writeParts(part.parts, inner)
  }
  if (entries.length === 0) writeParts(part.otherwise, scope)
}

function assign({ variables }: Pipe, values: readonly unknown[], scope: Scope): void {
  for (const [index, name] of variables.entries()) scope.variables.set(name, values[index])
}

/** A block has variables of its own. */
function innerOf(scope: Scope): Scope {
  scope.budget.spend(STEP * scope.variables.size)
  return { ...scope, variables: new Map(scope.variables) }
}

function write(value: unknown, { output, budget }: Scope): void {
  budget.spendWhole(value)
  output.push(printed(value))
}

function evaluate({ calls }: Pipe, scope: Scope): unknown {
  let last: { readonly value: unknown } | undefined
  for (const call of calls) last = { value: evaluateCall(call, last, scope) }
  return last?.value
}

function evaluateCall(
  [first, ...rest]: readonly Operand[],
  piped: { readonly value: unknown } | undefined,
  scope: Scope,
): unknown {
  if (first === undefined) return undefined
  if (first.base.kind !== 'function') {
    if (rest.length > 0 || piped !== undefined) throw invalid('only a function takes arguments')
    return valueOf(first, scope)
  }
  const given = rest.map((operand) => valueOf(operand, scope))
  return callFunction(first.base.name, piped === undefined ? given : [...given, piped.value], scope)
}

function callFunction(name: string, values: readonly unknown[], { budget }: Scope): unknown {
  const known = Object.hasOwn(FUNCTIONS, name) ? FUNCTIONS[name] : undefined
  if (known !== undefined) {
    budget.spend(STEP)
    if (READ_IN_PART.has(name)) return known(values, budget)
    budget.spendWhole(values)
    const result = known(values, budget)
    budget.spendWhole(result)
    return result
  }
  throw invalid(`there is no function ${name}; there are ${Object.keys(FUNCTIONS).join(', ')}`, {
    function: name,
  })
}

function valueOf({ base, fields }: Operand, scope: Scope): unknown {
  scope.budget.spend(STEP * (1 + fields.length))
  let value = baseOf(base, scope)
  for (const name of fields) value = fieldOf(value, name, scope.budget)
  return value
}

function baseOf(base: Operand['base'], scope: Scope): unknown {
  switch (base.kind) {
    case 'dot':
      return scope.dot
    case 'literal':
      return base.value
    case 'pipe':
      return evaluate(base.pipe, scope)
    case 'function':
      return callFunction(base.name, [], scope)
    case 'variable':
      if (scope.variables.has(base.name)) return scope.variables.get(base.name)
      throw invalid(`there is no variable ${base.name}`)
  }
}
