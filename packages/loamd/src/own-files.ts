// Paths that mean something else in each process: its standard streams, its descriptors and its terminal.
import { readlink, realpath } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'

/** Paths of standard streams, descriptors and the terminal of the process that uses them. */
export const OWN_FILES =
  /^(?:-|\/dev\/(?:stdin|stdout|stderr|tty|fd\/.*)|\/proc\/(?:self|thread-self)(?:\/.*)?)$/
const MAX_LINKS = 40
/** Characters in a word after which a path may begin. */
const MAX_PARTS = 8

/** Returns the first word that names a stream or a descriptor of the caller's process. A path may be on a server that does not answer. */
export async function findOwnFile(words: readonly string[], cwd: string): Promise<string | undefined> {
  for (const word of words) {
    for (const part of partsOf(word)) if (await isOwnFile(part, cwd)) return word
  }
  return undefined
}

/** A path may be behind a transport or the name of an option, in a list, and in front of a tag. */
function partsOf(word: string): string[] {
  const starts = [...word.matchAll(/[:=,]/g)].map(({ index }) => index + 1).slice(0, MAX_PARTS)
  const ends = starts.map((start) => start - 1)
  return [0, ...starts].flatMap((start) =>
    [...ends.filter((end) => end > start), word.length].map((end) => word.slice(start, end)),
  )
}

/** Follows symlinks: one may lead to /dev/stdin. */
async function isOwnFile(text: string, cwd: string): Promise<boolean> {
  if (OWN_FILES.test(text)) return true
  if (text === '' || text.includes('\0')) return false
  let path = resolve(cwd, text)
  for (let followed = 0; followed < MAX_LINKS; followed += 1) {
    try {
      path = join(await realpath(dirname(path)), basename(path))
      if (OWN_FILES.test(path) || path.startsWith(`/proc/${process.pid}/`)) return true
      path = resolve(dirname(path), await readlink(path))
    } catch {
      // It does not exist, or is not a symlink.
      return false
    }
  }
  return false
}
