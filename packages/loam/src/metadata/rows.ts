import { LoamError } from '../errors/index.ts'
import type { Row } from './database.ts'

/** Reads a text column. The tables are STRICT, so a wrong type means that the database is not ours. */
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

function wrongType(column: string): LoamError {
  return new LoamError('STORE_FORMAT', `read metadata.db: column ${column} has a wrong type`)
}
