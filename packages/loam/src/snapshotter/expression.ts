/*
 * Regular expressions of containerd's clients and of users: Go's, which have RE2's syntax. They are matched without backtracking; JavaScript's own
 * engine takes exponential time for some, on the main thread.
 */
import type * as Re2js from 're2js'
import { loadPackage } from '../linux/index.ts'

/** Returns whether a text matches an expression. */
export type Expression = (text: string) => boolean

const MAX_LENGTH = 1000

/** Returns undefined for a text that is not a valid expression of RE2, and for one that is too long. The engine is loaded on first use. */
export function parseExpression(text: string): Expression | undefined {
  if (text.length > MAX_LENGTH) return undefined
  const { RE2JS, RE2JSException } = loadPackage('re2js', import.meta.url) as typeof Re2js
  try {
    const expression = RE2JS.compile(text)
    return (subject) => expression.matcher(subject).find()
  } catch (error) {
    if (error instanceof RE2JSException) return undefined
    throw error
  }
}
