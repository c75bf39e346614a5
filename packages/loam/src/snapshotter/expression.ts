/*
 * Regular expressions as clients of containerd write them: Go's, which are RE2's. They are matched without backtracking; JavaScript's own
 * engine takes exponential time for some, on the thread that answers everybody.
 */
import { createRequire } from 'node:module'
import type * as Re2js from 're2js'

/** Returns whether a text holds what an expression asks for. */
export type Expression = (text: string) => boolean

const MAX_LENGTH = 1000

/** Returns undefined for a text that is not an expression of RE2, and for one that is too long. The engine is loaded when the first one comes. */
export function parseExpression(text: string): Expression | undefined {
  if (text.length > MAX_LENGTH) return undefined
  const { RE2JS, RE2JSException } = createRequire(import.meta.url)('re2js') as typeof Re2js
  try {
    const expression = RE2JS.compile(text)
    return (subject) => expression.matcher(subject).find()
  } catch (error) {
    if (error instanceof RE2JSException) return undefined
    throw error
  }
}
