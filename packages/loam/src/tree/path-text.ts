import { LoamError } from '../errors/index.ts'
import { splitPath } from './paths.ts'

const ESCAPE = /\\(?:\\|x([0-9a-f]{2}))/g

/**
 * Returns a name as text from which `parsePathText` gets the same bytes: UTF-8 as it is, but for a backslash, which is doubled, and for bytes that are
 * not UTF-8, which become `\xNN`. In a name that is not UTF-8, all bytes outside of ASCII are written so.
 */
export function formatNameText(name: Buffer): string {
  const text = name.toString('utf8')
  if (Buffer.from(text).equals(name)) return text.replaceAll('\\', '\\\\')
  return name
    .toString('latin1')
    .replaceAll('\\', '\\\\')
    .replace(/[\u0080-\u00ff]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16)}`)
}

/** Returns the names of a path that `formatNameText` has written, joined by slashes. @throws USAGE */
export function parsePathText(path: string): Buffer[] {
  const parts: Buffer[] = []
  let end = 0
  for (const match of path.matchAll(ESCAPE)) {
    parts.push(Buffer.from(path.slice(end, match.index)))
    parts.push(match[1] === undefined ? Buffer.from('\\') : Buffer.from(match[1], 'hex'))
    end = match.index + match[0].length
  }
  parts.push(Buffer.from(path.slice(end)))
  const names = splitPath(Buffer.concat(parts))
  if (names !== undefined) return names
  throw new LoamError(
    'USAGE',
    `read the path ${JSON.stringify(path)}: it is too long, or leads out of the image`,
  )
}
