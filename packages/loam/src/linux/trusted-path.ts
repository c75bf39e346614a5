import { lstatSync, readlinkSync, type Stats } from 'node:fs'
import { dirname, join } from 'node:path'
import { isErrno } from '../errors/index.ts'
import { isMachineRoot, isUnknownUser } from './rootless.ts'

const OTHERS_WRITE = 0o022
const ALL_WRITE = 0o002
const STICKY = 0o1000
const MAX_LINKS = 40

/** What is known of a path: whether only root and this user may change what it leads to. */
export interface PathTrust {
  /** The first directory or symlink of it that others may change, with the reason. */
  readonly untrusted?: string
  /** The path of what is there, without symlinks. */
  readonly found?: string
  /** Whether others may put something there, or into what is there. */
  readonly mayBeTaken?: boolean
}

/**
 * Examines an absolute path from the root on, so that nobody else can replace what was examined. Symlinks are followed if they are trusted, too. Others may
 * write to a directory above it if that is sticky, as /tmp is; and to what is there only with `isSticky`. @throws system errors
 */
export function examinePath(path: string, isSticky = false): PathTrust {
  const names = path.split('/')
  let links = 0
  let current = '/'
  let stats = lstatSync(current)
  for (let name = names.shift(); name !== undefined; name = names.shift()) {
    if (name === '' || name === '.') continue
    const untrusted = whyUntrusted(current, stats, true)
    if (untrusted !== undefined) return { untrusted }
    const next = name === '..' ? dirname(current) : join(current, name)
    const nextStats = statsOf(next)
    if (nextStats === 'unusable') return {}
    if (nextStats === undefined) return { mayBeTaken: othersWrite(stats) }
    if (nextStats.isSymbolicLink() && links < MAX_LINKS) {
      links += 1
      if (isStranger(nextStats.uid, true)) return { untrusted: ownerText(next, nextStats.uid) }
      const target = readlinkSync(next)
      names.unshift(...target.split('/'))
      if (!target.startsWith('/')) continue
      current = '/'
      stats = lstatSync(current)
      continue
    }
    current = next
    stats = nextStats
  }
  const untrusted = whyUntrusted(current, stats, isSticky)
  return untrusted === undefined ? { found: current, mayBeTaken: othersWrite(stats) } : { untrusted }
}

/** What is below a file, or a directory that this process may not search, cannot be used either: the call that needs it reports it. */
function statsOf(path: string): Stats | 'unusable' | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false })
  } catch (error) {
    if (isErrno(error, 'ENOTDIR', 'EACCES')) return 'unusable'
    throw error
  }
}

/**
 * Returns why others may change what is in a directory; undefined if only root and this user may. Others may write to one above what is used if it is
 * sticky: they cannot replace what is this user's there.
 */
export function whyUntrusted(
  subject: string,
  stats: Pick<Stats, 'uid' | 'gid' | 'mode'>,
  isAbove: boolean,
): string | undefined {
  if (isStranger(stats.uid, isAbove)) return ownerText(subject, stats.uid)
  if (!othersWrite(stats) || (isAbove && (stats.mode & STICKY) !== 0)) return undefined
  return `others may write to ${subject} (mode ${(stats.mode & 0o7777).toString(8)})`
}

/** Root of the machine is an unknown user in a user namespace: the directories above those of a user are root's. */
function isStranger(uid: number, isAbove: boolean): boolean {
  return uid !== 0 && uid !== process.geteuid?.() && !(isAbove && isUnknownUser(uid))
}

/** A user's own group is theirs alone on most machines, and their umask lets it write. Root has no such habit. */
function othersWrite({ gid, mode }: Pick<Stats, 'gid' | 'mode'>): boolean {
  const isOwnGroup = !isMachineRoot() && gid === process.getegid?.()
  return (mode & (isOwnGroup ? ALL_WRITE : OTHERS_WRITE)) !== 0
}

function ownerText(subject: string, uid: number): string {
  const owner = isUnknownUser(uid) ? 'another user' : `user ${uid}`
  return `${subject} is owned by ${owner}, who may replace ${subject === 'it' ? 'what is in it' : 'it'}`
}
