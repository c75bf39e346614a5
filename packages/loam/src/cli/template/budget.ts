import { invalid } from './parser.ts'

/** Some 100 ms. Text of a few MiB fits in, read and written. */
const MAX_WORK = 32 << 20
/** What a step costs: a part, a call, a turn of a loop, an element. A character costs 1. */
export const STEP = 64
/** What a field of an object costs: fields are listed and sorted. */
const FIELD = 4 * STEP

/** The work that one evaluation of a template may do. Its texts and lists are within it, too. */
export class Budget {
  #left = MAX_WORK

  /** @throws USAGE if the work is too much */
  spend(work: number): void {
    this.#left -= work
    if (this.#left < 0) throw invalid('its evaluation takes too long, or makes too much text')
  }

  /** Spends what it costs to list the elements or fields of a value. @throws USAGE */
  spendEntries(value: unknown): void {
    this.spend((Array.isArray(value) ? STEP : FIELD) * (countOf(value) ?? 0))
  }

  /** Spends what it costs to see whether a value is empty, or to get one element. @throws USAGE */
  spendPart(value: unknown): void {
    this.spend(typeof value === 'string' ? value.length : STEP)
    if (!Array.isArray(value)) this.spendEntries(value)
  }

  /** Spends what it costs to read a value as a whole. @throws USAGE */
  spendWhole(value: unknown): void {
    this.spend(typeof value === 'string' ? value.length : STEP)
    if (typeof value !== 'object' || value === null) return
    if (Array.isArray(value)) {
      for (const each of value) this.spendWhole(each)
      return
    }
    this.spendEntries(value)
    for (const [key, each] of value instanceof Map ? value : Object.entries(value)) {
      this.spendWhole(key)
      this.spendWhole(each)
    }
  }
}

/** Returns the number of the elements or fields of a value; undefined if it has none. */
export function countOf(value: unknown): number | undefined {
  if (Array.isArray(value)) return value.length
  if (value instanceof Map) return value.size
  return typeof value === 'object' && value !== null ? Object.keys(value).length : undefined
}
