import { invalid } from './parser.ts'
import { entriesOf, fieldOf, isTrue, printed } from './values.ts'

type TemplateFunction = (values: readonly unknown[]) => unknown

const MAX_PADDING = 10_000
const MAX_DIGITS = 20

/** The functions of templates, with the names and meanings of docker's and Go's. */
export const FUNCTIONS: Readonly<Record<string, TemplateFunction>> = {
  json: ([value]) => JSON.stringify(value ?? null, (_key, each: unknown) => plain(each)),
  join: ([list, separator]) => {
    if ([list, separator].some((each) => each === undefined || each === null)) return ''
    // docker takes the list first, and Go templates of other tools pipe it in last.
    const [all, between] = Array.isArray(list) ? [list, separator] : [separator, list]
    if (!Array.isArray(all)) throw invalid(`join ${printed(all).slice(0, 40)}: it is not a list`)
    return all.map(printed).join(textOf(between))
  },
  lower: ([text]) => textOf(text).toLowerCase(),
  upper: ([text]) => textOf(text).toUpperCase(),
  title: ([text]) => textOf(text).replaceAll(/\b\p{L}/gu, (letter) => letter.toUpperCase()),
  split: ([text, separator]) => textOf(text).split(textOf(separator)),
  pad: ([text, before, after]) => `${spaces(before)}${textOf(text)}${spaces(after)}`,
  truncate: ([text, length]) => textOf(text).slice(0, Math.max(0, numberOf(length))),
  println: (values) => `${values.map(printed).join(' ')}\n`,
  print: (values) => values.map(printed).join(''),
  printf: ([format, ...values]) => formatted(textOf(format), values),
  len: ([value]) => (typeof value === 'string' ? Buffer.byteLength(value) : entriesOf(value).length),
  index: ([value, ...keys]) => keys.reduce(elementOf, value),
  slice: ([value, start, end]) => {
    const range = [numberOf(start ?? 0), end === undefined ? undefined : numberOf(end)] as const
    return Array.isArray(value) ? value.slice(...range) : textOf(value).slice(...range)
  },
  eq: ([value, ...others]) => others.some((other) => isEqual(value, other)),
  ne: ([value, other]) => !isEqual(value, other),
  lt: ([a, b]) => compare(a, b) < 0,
  le: ([a, b]) => compare(a, b) <= 0,
  gt: ([a, b]) => compare(a, b) > 0,
  ge: ([a, b]) => compare(a, b) >= 0,
  // Without such a value the index is -1, that of the last one.
  and: (values) => values.at(values.findIndex((value) => !isTrue(value))),
  or: (values) => values.at(values.findIndex(isTrue)),
  not: ([value]) => !isTrue(value),
}

function plain(value: unknown): unknown {
  return value instanceof Map ? Object.fromEntries(value) : value
}

function textOf(value: unknown): string {
  return value === undefined || value === null ? '' : printed(value)
}

function spaces(count: unknown): string {
  return ' '.repeat(Math.min(MAX_PADDING, Math.max(0, numberOf(count ?? 0))))
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

/** The fields of lists are texts, also those of numbers. @throws USAGE for values of different types, as in Go */
function compare(a: unknown, b: unknown): number {
  if (isNumber(a) || isNumber(b)) return numberOf(a) - numberOf(b)
  if (typeof a === 'string' && typeof b === 'string') return a < b ? -1 : Number(a > b)
  const [first, second] = [a, b].map((value) => printed(value).slice(0, 40))
  throw invalid(`compare ${first} with ${second}: they are neither numbers nor texts`)
}

function isNumber(value: unknown): value is number | bigint {
  return typeof value === 'number' || typeof value === 'bigint'
}

/** @throws USAGE for what is no number */
function numberOf(value: unknown): number {
  if (isNumber(value)) return Number(value)
  const isNumeric = typeof value === 'string' && /^[-+]?\d+(?:\.\d+)?$/.test(value)
  if (isNumeric) return Number(value)
  throw invalid(`${JSON.stringify(printed(value).slice(0, 40))} is not a number`)
}

/** A verb of printf: %v with a width, for example. */
interface Verb {
  readonly flags: string
  readonly width: number
  readonly precision: number | undefined
  readonly kind: string
}

const VERB = /%(?<flags>[-+ 0]*)(?<width>\d*)(?:\.(?<precision>\d*))?(?<kind>[^]?)/gu

/** @throws USAGE for a verb that is not known, and unless there is one value for each */
function formatted(format: string, values: readonly unknown[]): string {
  let used = 0
  const replace = (text: string, ...[flags = '', width = '', precision, kind = '']: string[]) => {
    if (kind === '%') return '%'
    if (used === values.length) throw invalid(`printf has no value for ${text}`)
    used += 1
    const lengths = {
      width: Number(width),
      precision: precision === undefined ? undefined : Number(precision),
    }
    return padded(verbText({ flags, kind, ...lengths }, values[used - 1]), { flags, width: lengths.width })
  }
  const result = format.replaceAll(VERB, replace)
  if (used < values.length) throw invalid(`printf has more values than verbs`)
  return result
}

/** The verbs that are used for tables: %s, %v, %q, %d, %t and %f. @throws USAGE for others, and for a value of another type */
function verbText({ kind, flags, precision }: Omit<Verb, 'width'>, value: unknown): string {
  const text = textOf(value)
  if (kind === 'd' || kind === 'f' || (kind === 'v' && isNumber(value))) {
    const number = numberOf(value)
    const digits = kind === 'f' ? number.toFixed(Math.min(MAX_DIGITS, precision ?? 6)) : text
    return number < 0 || !/[+ ]/.test(flags) ? digits : `${flags.includes('+') ? '+' : ' '}${digits}`
  }
  if (kind === 't' && !/^(?:true|false)$/.test(text))
    throw invalid(`${JSON.stringify(text)} is not a boolean`)
  if (kind === 'q') return JSON.stringify(text)
  if (!/^[svt]$/.test(kind)) throw invalid(`printf has no verb %${kind}; there are %s, %v, %q, %d, %t and %f`)
  return kind === 's' && precision !== undefined ? text.slice(0, precision) : text
}

function padded(text: string, { flags, width }: Pick<Verb, 'flags' | 'width'>): string {
  const length = Math.min(MAX_PADDING, width)
  if (flags.includes('-')) return text.padEnd(length)
  if (!flags.includes('0')) return text.padStart(length)
  const [sign = ''] = /^[-+ ]/.exec(text) ?? []
  return sign + text.slice(sign.length).padStart(length - sign.length, '0')
}
