import { type Budget, countOf, STEP } from './budget.ts'
import { invalid } from './parser.ts'
import { entriesOf, fieldOf, isTrue, printed } from './values.ts'

/** Its values and its result are paid by the caller, and work beyond them by the function. */
type TemplateFunction = (values: readonly unknown[], budget: Budget) => unknown

const MAX_PADDING = 10_000
const MAX_DIGITS = 20
/** What a character costs that may become an element, or is handled by itself. */
const PART = STEP / 4

/** Functions that read no value as a whole: they pay for what they read. */
export const READ_IN_PART: ReadonlySet<string> = new Set(['len', 'index', 'and', 'or', 'not'])

/** The functions of templates, with the names and meanings of docker's and Go's. */
export const FUNCTIONS: Readonly<Record<string, TemplateFunction>> = {
  json: ([value]) => JSON.stringify(value ?? null, (_key, each: unknown) => plain(each)),
  join: ([list, separator], budget) => {
    if ([list, separator].some((each) => each === undefined || each === null)) return ''
    // docker takes the list first, and Go templates of other tools pipe it in last.
    const [all, between] = Array.isArray(list) ? [list, separator] : [separator, list]
    if (!Array.isArray(all)) throw invalid(`join ${printed(all).slice(0, 40)}: it is not a list`)
    const text = textOf(between)
    budget.spend(all.length * text.length)
    return all.map(printed).join(text)
  },
  lower: ([text]) => textOf(text).toLowerCase(),
  upper: ([text]) => textOf(text).toUpperCase(),
  title: ([text], budget) =>
    paid(textOf(text), budget).replaceAll(/\b\p{L}/gu, (letter) => letter.toUpperCase()),
  split: ([text, separator], budget) => paid(textOf(text), budget).split(textOf(separator)),
  pad: ([text, before, after]) => `${spaces(before)}${textOf(text)}${spaces(after)}`,
  truncate: ([text, length]) => textOf(text).slice(0, Math.max(0, numberOf(length))),
  println: (values) => `${values.map(printed).join(' ')}\n`,
  print: (values) => values.map(printed).join(''),
  printf: ([format, ...values], budget) => formatted(textOf(format), values, budget),
  len: ([value], budget) => {
    budget.spendPart(value)
    return typeof value === 'string' ? Buffer.byteLength(value) : (countOf(value) ?? entriesOf(value).length)
  },
  index: ([value, ...keys], budget) => keys.reduce((all, key) => elementOf(all, key, budget), value),
  slice: ([value, start, end]) => {
    const range = [numberOf(start ?? 0), end === undefined ? undefined : numberOf(end)] as const
    return Array.isArray(value) ? value.slice(...range) : textOf(value).slice(...range)
  },
  eq: ([value, ...others]) => isAmong(value, others),
  ne: ([value, other]) => !isAmong(value, [other]),
  lt: ([a, b]) => compare(a, b) < 0,
  le: ([a, b]) => compare(a, b) <= 0,
  gt: ([a, b]) => compare(a, b) > 0,
  ge: ([a, b]) => compare(a, b) >= 0,
  // Without such a value the index is -1, that of the last one.
  and: (values, budget) => values.at(values.findIndex((value) => !isTrue(value, budget))),
  or: (values, budget) => values.at(values.findIndex((value) => isTrue(value, budget))),
  not: ([value], budget) => !isTrue(value, budget),
}

function plain(value: unknown): unknown {
  return value instanceof Map ? Object.fromEntries(value) : value
}

function textOf(value: unknown): string {
  return value === undefined || value === null ? '' : printed(value)
}

function paid(text: string, budget: Budget): string {
  budget.spend(PART * text.length)
  return text
}

function spaces(count: unknown): string {
  return ' '.repeat(Math.min(MAX_PADDING, Math.max(0, numberOf(count ?? 0))))
}

function elementOf(value: unknown, key: unknown, budget: Budget): unknown {
  budget.spendWhole(key)
  if (!Array.isArray(value)) return fieldOf(value, textOf(key), budget)
  const element: unknown = value[Number(key)]
  if (element === undefined) throw invalid(`index ${textOf(key)} of a list with ${value.length} elements`)
  return element
}

function isAmong(value: unknown, others: readonly unknown[]): boolean {
  const text = printed(value)
  return others.some((other) => printed(other) === text)
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
function formatted(format: string, values: readonly unknown[], budget: Budget): string {
  let used = 0
  const replace = (text: string, ...[flags = '', width = '', precision, kind = '']: string[]) => {
    if (kind === '%') return '%'
    if (used === values.length) throw invalid(`printf has no value for ${text}`)
    used += 1
    const lengths = {
      width: Number(width),
      precision: precision === undefined ? undefined : Number(precision),
    }
    budget.spend(Math.min(MAX_PADDING, lengths.width))
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
