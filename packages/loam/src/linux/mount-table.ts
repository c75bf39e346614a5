import { closeSync, constants, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { posix } from 'node:path'
import { isErrno } from '../errors/index.ts'
import { AT_FDCWD, AT_SYMLINK_NOFOLLOW, libc, O_PATH } from './libc.ts'
import { mountIdOf, tableIdOf } from './mount-id.ts'
import { openWithoutLinks } from './open-beneath.ts'

/** Printable ASCII without a backslash means itself. */
const PLAIN = /^[ -[\]-~]*$/

/** One line of /proc/self/mountinfo (proc(5)). */
export interface MountEntry {
  readonly id: number
  readonly parentId: number
  /** Device of the file system, as major:minor, and the path in it that is shown. */
  readonly device: string
  readonly shown: string
  readonly target: string
  /** The target unchanged; names in containers may not be UTF-8. */
  readonly targetBytes: Buffer
  readonly type: string
  readonly source: string
  readonly options: readonly string[]
  readonly superOptions: string
  /** Returns the value of an option of the file system. */
  readonly superOption: (name: string) => string | undefined
}

/** Reads this process's mounts, in the order they were made where they stack. */
export function readMountTable(): MountEntry[] {
  return parseMountTable(readFileSync('/proc/self/mountinfo', 'latin1'))
}

/** Mounts by their IDs, in the order of the table. */
export type MountsById = ReadonlyMap<number, MountEntry>

/** Reads this process's mounts, for callers that look up many. */
export function readMountsById(): MountsById {
  return new Map(readMountTable().map((entry) => [entry.id, entry]))
}

/** Parses the text of a mountinfo file. */
export function parseMountTable(text: string): MountEntry[] {
  return text.split('\n').flatMap((line) => {
    const [left = '', right] = line.split(' - ')
    const fields = left.split(' ')
    return right === undefined || fields.length < 6 ? [] : [new MountLine(fields, right.split(' '))]
  })
}

/** Of thousands of mounts few are looked at: a field is decoded when it is read. */
class MountLine implements MountEntry {
  readonly #fields: readonly string[]
  readonly #rest: readonly string[]
  readonly target: string

  constructor(fields: readonly string[], rest: readonly string[]) {
    this.#fields = fields
    this.#rest = rest
    this.target = unescapePath(this.#field(4))
  }

  get id(): number {
    return Number(this.#field(0))
  }

  get parentId(): number {
    return Number(this.#field(1))
  }

  get device(): string {
    return this.#field(2)
  }

  get shown(): string {
    return unescapePath(this.#field(3))
  }

  get targetBytes(): Buffer {
    return unescapeBytes(this.#field(4))
  }

  get options(): readonly string[] {
    return this.#field(5).split(',')
  }

  get type(): string {
    return this.#rest[0] ?? ''
  }

  get source(): string {
    return unescapePath(this.#rest[1] ?? '')
  }

  get superOptions(): string {
    return this.#rest[2] ?? ''
  }

  superOption(name: string): string | undefined {
    const option = this.superOptions.split(',').find((each) => each.startsWith(`${name}=`))
    return option === undefined ? undefined : unescapePath(option.slice(name.length + 1))
  }

  #field(index: number): string {
    return this.#fields[index] ?? ''
  }
}

/** The kernel writes blanks, tabs, newlines and backslashes as three octal digits, and other bytes as they are. */
function unescapeBytes(text: string): Buffer {
  const bytes = text.replace(/\\([0-7]{3})/g, (_all, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  )
  return Buffer.from(bytes, 'latin1')
}

function unescapePath(text: string): string {
  return PLAIN.test(text) ? text : unescapeBytes(text).toString('utf8')
}

/** Returns whether a path of an overlay's options is this one: overlayfs shows it as it was given, with its own backslashes. */
export function isOptionPath(shown: string, path: string): boolean {
  return shown === path || unescapeOption(shown) === path
}

function unescapeOption(shown: string): string {
  return shown.replaceAll(/\\(.)/gs, '$1')
}

/** Returns the mount that a directory is in; undefined when it is not there. Its path holds no symlink. */
export function findMountOf(path: string, table: readonly MountEntry[]): MountEntry | undefined {
  try {
    const fd = openWithoutLinks(path, O_PATH | constants.O_DIRECTORY)
    try {
      const id = tableIdOf(mountIdOf(fd))
      return table.find((mount) => mount.id === id)
    } finally {
      closeSync(fd)
    }
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  }
}

/** Returns the mounts that show the content of a directory, wherever they are: a part of it, or an overlay whose upper folder is in it. */
export function findMountsShowing(folder: string, table: readonly MountEntry[]): MountEntry[] {
  const own = findMountOf(folder, table)
  if (own === undefined) return []
  const shown = posix.join(own.shown, posix.relative(own.target, folder))
  return table.filter(
    (mount) =>
      (mount.device === own.device && isWithin(mount.shown, shown)) ||
      (mount.type === 'overlay' && isWithin(unescapeOption(mount.superOption('upperdir') ?? ''), folder)),
  )
}

function isWithin(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder}/`)
}

/** Returns the mounts at a path or below it, the last made first: the order in which they can be unmounted. */
export function findMountsBelow(path: string, table: readonly MountEntry[] = readMountTable()): MountEntry[] {
  const prefix = path.endsWith('/') ? path : `${path}/`
  return table.filter(({ target }) => target === path || target.startsWith(prefix)).toReversed()
}

/** Returns false when nothing is mounted at a path or below it. Looks at the text alone: thousands of lines take long to parse. */
export function mayBeMountedBelow(path: string): boolean {
  // The kernel escapes some characters.
  if (!/^[\w./:@+-]+$/.test(path)) return true
  return readFileSync('/proc/self/mountinfo', 'latin1').includes(` ${path}`)
}

const STATX_MNT_ID = 0x1000

/**
 * Returns the mount that a path shows, if one is mounted at just this path: of several at one place the one that is seen, and none when
 * something that is mounted above it hides it. Paths are absolute and hold no symlink.
 */
export function visibleMount(path: string, mounts: MountsById = readMountsById()): MountEntry | undefined {
  const out = Buffer.alloc(256)
  try {
    libc().statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_MNT_ID, out)
  } catch (error) {
    // The mount itself may be broken: then the table describes it.
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
  }
  // struct statx: stx_mask at 0, stx_mnt_id at 144 (Linux 5.8)
  const isKnown = (out.readUInt32LE(0) & STATX_MNT_ID) !== 0
  const found = isKnown
    ? mounts.get(Number(out.readBigUInt64LE(144)))
    : [...mounts.values()].findLast(({ target }) => target === path)
  return found?.target === path ? found : undefined
}

/** Finds a process in whose mount namespace an overlay over a writable folder is mounted; this process's own is looked at, too. */
export function findOverlayUser(upper: string): number | undefined {
  const seen = new Set<string>()
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const namespace = readlinkSync(`/proc/${pid}/ns/mnt`)
      if (seen.has(namespace)) continue
      seen.add(namespace)
      const mounts = parseMountTable(readFileSync(`/proc/${pid}/mountinfo`, 'latin1'))
      const isUser = (mount: MountEntry) =>
        mount.type === 'overlay' && isOptionPath(mount.superOption('upperdir') ?? '', upper)
      if (mounts.some(isUser)) return Number(pid)
    } catch {
      // It has ended, or is not ours to look at.
    }
  }
  return undefined
}

/** Returns whether something is mounted at just this path. */
export function isMountPoint(path: string, table: readonly MountEntry[] = readMountTable()): boolean {
  return table.some(({ target }) => target === path)
}
