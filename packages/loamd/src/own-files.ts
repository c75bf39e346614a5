// Paths that mean something else in each process: its standard streams, its descriptors and its terminal.
import { readlink, realpath } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { OWN_FILES } from 'loamfs/internal'

/** Returns whether a text is the path of a standard stream, a descriptor or the terminal of the process that uses it. */
export function isOwnFile(text: string): boolean {
  return OWN_FILE.test(text)
}

const OWN_FILE = new RegExp(String.raw`^(?:-$|\/${OWN_FILES})`, 's')
const MAX_LINKS = 40
/** Characters in a word after which a path may begin. */
const MAX_PARTS = 8

/** Returns the first word that names a stream or a descriptor of the caller's process. A path may be on a server that does not answer. */
export async function findOwnFile(words: readonly string[], cwd: string): Promise<string | undefined> {
  for (const word of words) if (await leadsToOwnFile(partsOf(word), cwd)) return word
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

/** Follows symlinks: one may lead to /dev/stdin. Folders that several texts have in common are looked up once. */
async function leadsToOwnFile(texts: readonly string[], cwd: string): Promise<boolean> {
  if (texts.some((text) => isOwnFile(text))) return true
  const named = texts.filter((text) => text !== '' && !text.includes('\0'))
  let paths = distinct(named.map((text) => resolve(cwd, text)))
  for (let followed = 0; followed < MAX_LINKS && paths.length > 0; followed += 1) {
    const real = await resolveFolders(paths)
    if (real.some((path) => isOwnFile(path) || path.startsWith(`/proc/${process.pid}/`))) return true
    paths = distinct((await Promise.all(real.map(followLink))).flat())
  }
  return false
}

/** Returns the paths of the same names without symlinks before the name; those in folders that do not exist are left out. */
async function resolveFolders(paths: readonly string[]): Promise<string[]> {
  const folders = distinct(paths.map((path) => dirname(path)))
  const found = await Promise.all(folders.map(async (folder) => realpath(folder).catch(() => undefined)))
  const real = new Map(folders.map((folder, index) => [folder, found[index]]))
  return distinct(
    paths.flatMap((path) => {
      const folder = real.get(dirname(path))
      return folder === undefined ? [] : [join(folder, basename(path))]
    }),
  )
}

/** Returns where a symlink leads; nothing for what is not one. */
async function followLink(path: string): Promise<string[]> {
  try {
    return [resolve(dirname(path), await readlink(path))]
  } catch {
    return []
  }
}

function distinct(texts: readonly string[]): string[] {
  return [...new Set(texts)]
}
