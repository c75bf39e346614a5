import { writeStandardError } from '../linux/index.ts'

/** Writes a line to the log of the handler, which is its standard error. */
export function report(text: string): void {
  writeStandardError(`${new Date().toISOString()} ${text}\n`)
}
