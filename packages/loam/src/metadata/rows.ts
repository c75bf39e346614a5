import { LoamError } from '../errors/index.ts'
import type { Digest } from '../image/index.ts'
import type { Row } from './database.ts'

/** Reads a text column. The tables are STRICT, so a wrong type means a foreign database. */
export function text(row: Row, column: string): string {
  const value = row[column]
  if (typeof value !== 'string') throw wrongType(column)
  return value
}

/** Reads a text column that may be NULL. */
export function optionalText(row: Row, column: string): string | undefined {
  return row[column] === null ? undefined : text(row, column)
}

/** Reads a whole number. */
export function integer(row: Row, column: string): number {
  const value = row[column]
  if (typeof value !== 'number') throw wrongType(column)
  return value
}

/** Reads a whole number that may be NULL. */
export function optionalInteger(row: Row, column: string): number | undefined {
  return row[column] === null ? undefined : integer(row, column)
}

/** Reads a 0 or 1. */
export function flag(row: Row, column: string): boolean {
  return integer(row, column) === 1
}

/** Reads a text that must be one of a few. */
export function oneOf<T extends string>(row: Row, column: string, known: readonly T[]): T {
  const value = text(row, column)
  const found = known.find((one) => one === value)
  if (found !== undefined) return found
  throw new LoamError('STORE_FORMAT', `read metadata.db: column ${column} has an unknown value`)
}

/** Reads a digest that may be NULL. @throws DIGEST_INVALID */
export function optionalDigest<T extends Digest>(
  row: Row,
  column: string,
  parse: (value: unknown) => T,
): T | undefined {
  return row[column] === null ? undefined : parse(row[column])
}

/** Reads an object of texts. */
export function texts(row: Row, column: string): Record<string, string> {
  const value: unknown = JSON.parse(text(row, column))
  if (typeof value !== 'object' || value === null) throw wrongType(column)
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, String(one)]))
}

/** Reads a list that a statement has gathered with `json_group_array`. */
export function list(row: Row, column: string): readonly unknown[] {
  const value: unknown = JSON.parse(text(row, column))
  if (!Array.isArray(value)) throw wrongType(column)
  return value
}

/** Reads the answer to `SELECT EXISTS (…) AS found`. */
export function exists(row: Row | undefined): boolean {
  return row?.['found'] === 1
}

function wrongType(column: string): LoamError {
  return new LoamError('STORE_FORMAT', `read metadata.db: column ${column} has a wrong type`)
}
