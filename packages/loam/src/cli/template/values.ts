import { type Budget, countOf } from './budget.ts'
import { invalid } from './parser.ts'

/** An object whose fields are known: a template that names another one is an error. */
export const KNOWN_FIELDS: unique symbol = Symbol('known fields')

/** Returns an object whose fields are known to be all that there are. */
export function withKnownFields<T extends object>(value: T): T {
  return Object.defineProperty(value, KNOWN_FIELDS, { value: true })
}

/** Returns a field of a value; its case matters only where two fields differ in it. @throws USAGE for an unknown one of an object with known fields */
export function fieldOf(value: unknown, name: string, budget: Budget): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    if (value === undefined || value === null) return undefined
    throw invalid(`there is no field ${name} in ${printed(value).slice(0, 40)}`)
  }
  // A map is copied.
  if (value instanceof Map) budget.spendEntries(value)
  const all = value instanceof Map ? Object.fromEntries(value) : (value as Record<string, unknown>)
  if (Object.hasOwn(all, name)) return all[name]
  budget.spendEntries(all)
  const key = Object.keys(all).find((each) => each.toLowerCase() === name.toLowerCase())
  if (key !== undefined) return all[key]
  if (KNOWN_FIELDS in value)
    throw invalid(`there is no field ${name}; there are ${Object.keys(all).join(', ')}`, { field: name })
  return undefined
}

/** Returns whether a value counts as true in `if`: it is not empty. */
export function isTrue(value: unknown, budget: Budget): boolean {
  budget.spendPart(value)
  return (countOf(value) ?? Number(Boolean(value))) > 0
}

/** Returns what `range` goes through: elements by index, or values by key in the order of the keys. @throws USAGE for a text or a number */
export function entriesOf(value: unknown): [unknown, unknown][] {
  if (value === undefined || value === null) return []
  if (Array.isArray(value)) return [...value.entries()]
  if (value instanceof Map) return entriesOf(Object.fromEntries(value))
  if (typeof value !== 'object') throw invalid(`range over ${printed(value).slice(0, 40)}: it is not a list`)
  return Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
}

/** Returns the text of a value as Go prints it: `[a b]` for a list, `map[a:1]` for an object. */
export function printed(value: unknown): string {
  if (value === undefined || value === null) return '<no value>'
  if (Array.isArray(value)) return `[${value.map(printed).join(' ')}]`
  if (typeof value === 'string') return value
  if (typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean')
    return String(value)
  if (typeof value !== 'object') return ''
  return `map[${entriesOf(value)
    .map(([key, each]) => `${String(key)}:${printed(each)}`)
    .join(' ')}]`
}
