import { readFileSync } from 'node:fs'

/** One line of /proc/self/mountinfo (proc(5)). */
export interface MountEntry {
  readonly id: number
  readonly parentId: number
  readonly target: string
  readonly type: string
  readonly source: string
  readonly options: readonly string[]
  readonly superOptions: string
}

/** Reads this process's mounts, in the order they were made where they stack. Paths are UTF-8 or latin1-escaped bytes. */
export function readMountTable(): MountEntry[] {
  return parseMountTable(readFileSync('/proc/self/mountinfo', 'latin1'))
}

/** Parses the text of a mountinfo file. */
export function parseMountTable(text: string): MountEntry[] {
  return text.split('\n').flatMap((line) => {
    const [left = '', right] = line.split(' - ')
    const fields = left.split(' ')
    if (right === undefined || fields.length < 6) return []
    const [type = '', source = '', superOptions = ''] = right.split(' ')
    return [
      {
        id: Number(fields[0]),
        parentId: Number(fields[1]),
        target: unescapePath(fields[4] ?? ''),
        type,
        source: unescapePath(source),
        options: (fields[5] ?? '').split(','),
        superOptions,
      },
    ]
  })
}

/** The kernel writes blanks, tabs, newlines and backslashes as three octal digits, and other bytes as they are. */
function unescapePath(text: string): string {
  const bytes = text.replace(/\\([0-7]{3})/g, (_all, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  )
  return Buffer.from(bytes, 'latin1').toString('utf8')
}

/** Returns the mounts at a path or below it, the last made first: the order in which they can be unmounted. */
export function findMountsBelow(path: string, table: readonly MountEntry[] = readMountTable()): MountEntry[] {
  const prefix = path.endsWith('/') ? path : `${path}/`
  return table.filter(({ target }) => target === path || target.startsWith(prefix)).toReversed()
}

/** Tells whether something is mounted at just this path. */
export function isMountPoint(path: string, table: readonly MountEntry[] = readMountTable()): boolean {
  return table.some(({ target }) => target === path)
}
