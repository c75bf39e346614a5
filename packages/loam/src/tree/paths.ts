import { MAX_PATH_BYTES } from './limits.ts'

/** Prefix of the last part of a whiteout's name; the rest is the name that it hides. */
export const WHITEOUT_PREFIX = Buffer.from('.wh.')
const SLASH = 47
const DOT = 46

/**
 * Splits a name of an archive into its parts. Leading slashes, doubled slashes and `.` have no meaning; `..` removes
 * the part before it. Returns undefined for a name that climbs above the root, or is too long for Linux.
 */
export function splitPath(name: Buffer): Buffer[] | undefined {
  if (name.length > MAX_PATH_BYTES + WHITEOUT_PREFIX.length) return undefined
  const parts: Buffer[] = []
  let start = 0
  for (let at = 0; at <= name.length; at += 1) {
    if (at < name.length && name[at] !== SLASH) continue
    const part = name.subarray(start, at)
    start = at + 1
    if (part.length === 0 || isDot(part)) continue
    if (!isDotDot(part)) parts.push(part)
    else if (parts.pop() === undefined) return undefined
  }
  return parts
}

export function isDot(part: Buffer): boolean {
  return part.length === 1 && part[0] === DOT
}

export function isDotDot(part: Buffer): boolean {
  return part.length === 2 && part[0] === DOT && part[1] === DOT
}

/** Returns a name for a message: everything but plain text is escaped, and long names are cut. */
export function showName(name: Buffer): string {
  const text = name.subarray(0, 200).toString('utf8')
  const isText = Buffer.from(text).equals(name.subarray(0, 200))
  return JSON.stringify(isText ? text : name.subarray(0, 200).toString('latin1'))
}
