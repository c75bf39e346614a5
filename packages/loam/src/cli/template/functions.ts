import { invalid } from './parser.ts'
import { entriesOf, fieldOf, isTrue, printed } from './values.ts'

type TemplateFunction = (values: readonly unknown[]) => unknown

const MAX_PADDING = 10_000

/** The functions of templates, with the names and meanings of docker's and Go's. */
export const FUNCTIONS: Readonly<Record<string, TemplateFunction>> = {
  json: ([value]) => JSON.stringify(value ?? null, (_key, each: unknown) => plain(each)),
  join: ([list, separator]) => {
    // docker takes the list first, and Go templates of other tools pipe it in last.
    const [all, between] = Array.isArray(list) ? [list, separator] : [separator, list]
    return (Array.isArray(all) ? all : []).map(printed).join(textOf(between))
  },
  lower: ([text]) => textOf(text).toLowerCase(),
  upper: ([text]) => textOf(text).toUpperCase(),
  title: ([text]) => textOf(text).replaceAll(/\b\p{L}/gu, (letter) => letter.toUpperCase()),
  split: ([text, separator]) => textOf(text).split(textOf(separator)),
  pad: ([text, before, after]) => `${spaces(before)}${textOf(text)}${spaces(after)}`,
  truncate: ([text, length]) => textOf(text).slice(0, Math.max(0, Number(length))),
  println: (values) => `${values.map(printed).join(' ')}\n`,
  print: (values) => values.map(printed).join(''),
  printf: ([format, ...values]) => formatted(textOf(format), values),
  len: ([value]) => (typeof value === 'string' ? Buffer.byteLength(value) : entriesOf(value).length),
  index: ([value, ...keys]) => keys.reduce(elementOf, value),
  slice: ([value, start, end]) => {
    const range = [Number(start ?? 0), end === undefined ? undefined : Number(end)] as const
    return Array.isArray(value) ? value.slice(...range) : textOf(value).slice(...range)
  },
  eq: ([value, ...others]) => others.some((other) => isEqual(value, other)),
  ne: ([value, other]) => !isEqual(value, other),
  lt: ([a, b]) => compare(a, b) < 0,
  le: ([a, b]) => compare(a, b) <= 0,
  gt: ([a, b]) => compare(a, b) > 0,
  ge: ([a, b]) => compare(a, b) >= 0,
  and: (values) => values.find((value) => !isTrue(value)) ?? values.at(-1),
  or: (values) => values.find(isTrue) ?? values.at(-1),
  not: ([value]) => !isTrue(value),
}

function plain(value: unknown): unknown {
  return value instanceof Map ? Object.fromEntries(value) : value
}

function textOf(value: unknown): string {
  return value === undefined || value === null ? '' : printed(value)
}

function spaces(count: unknown): string {
  return ' '.repeat(Math.min(MAX_PADDING, Math.max(0, Number(count ?? 0) || 0)))
}

function elementOf(value: unknown, key: unknown): unknown {
  if (!Array.isArray(value)) return fieldOf(value, textOf(key))
  const element: unknown = value[Number(key)]
  if (element === undefined) throw invalid(`index ${textOf(key)} of a list with ${value.length} elements`)
  return element
}

function isEqual(a: unknown, b: unknown): boolean {
  return printed(a) === printed(b)
}

function compare(a: unknown, b: unknown): number {
  if (typeof a === 'number' && typeof b === 'number') return a - b
  return textOf(a) < textOf(b) ? -1 : Number(textOf(a) > textOf(b))
}

const VERB = /%(?:%|(?<left>-?)(?<zero>0?)(?<width>\d*)(?:\.(?<precision>\d+))?(?<kind>[svqdtf]))/g

/** The verbs that are used for tables: %s, %v, %q, %d, %t, with a width. */
function formatted(format: string, values: readonly unknown[]): string {
  let result = ''
  let [at, next] = [0, 0]
  for (const { 0: verb, index, groups = {} } of format.matchAll(VERB)) {
    result += format.slice(at, index)
    at = index + verb.length
    if (verb === '%%') {
      result += '%'
      continue
    }
    const text = verbText(groups['kind'] ?? 's', values[next], groups['precision'])
    const length = Math.min(MAX_PADDING, Number(groups['width'] ?? 0))
    result +=
      groups['left'] === '-' ? text.padEnd(length) : text.padStart(length, groups['zero'] === '0' ? '0' : ' ')
    next += 1
  }
  return result + format.slice(at)
}

function verbText(kind: string, value: unknown, precision: string | undefined): string {
  if (kind === 'q') return JSON.stringify(textOf(value))
  if (kind === 'f') return Number(value).toFixed(Math.min(20, Number(precision ?? 6)))
  const text = textOf(value)
  return kind === 's' && precision !== undefined ? text.slice(0, Number(precision)) : text
}
