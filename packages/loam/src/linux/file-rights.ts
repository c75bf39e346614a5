/*
 * Reading files for another user than that of this process. The kernel keeps the IDs by which it judges accesses to files, and capabilities, for
 * each thread (setfsuid(2), capset(2)). So a synchronous call between two changes of both opens a file exactly when that user may, without a
 * process of its own, and no other code runs meanwhile. No capability stays: with CAP_SYS_PTRACE the kernel would show what other processes
 * have in /proc. What /proc shows of this process itself is refused: it is not the caller's.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { closeSync, constants, openSync, statfsSync } from 'node:fs'
import { relative, resolve } from 'node:path'
import { isErrno, LoamError } from '../errors/index.ts'
import { AT_FDCWD, libc, O_PATH } from './libc.ts'
import { openat2, openBeneath, RESOLVE_NO_MAGICLINKS } from './open-beneath.ts'

/** User and groups of a process. */
export interface FileRights {
  readonly userId: number
  /** The first one is that of files which it creates. */
  readonly groupIds: readonly number[]
}

/** A directory of this process itself: what is there does not belong to callers. */
export interface OwnFolder {
  readonly path: string
  /** Whether symlinks in it are followed. False where files of images and containers may be, which choose where their symlinks lead. */
  readonly followsLinks: boolean
}

/** Opens the file with flags of open(2), and returns its descriptor. */
export type OpenFile = (flags: number) => number

interface Caller extends FileRights {
  readonly own: readonly OwnFolder[]
}

/** How a path is opened: as a caller's, or as one of this process in one of its directories. */
type Access =
  | { readonly kind: 'own'; readonly folder: OwnFolder; readonly absolute: string }
  | { readonly kind: 'caller'; readonly caller: Caller }

const callers = new AsyncLocalStorage<Caller>()

/**
 * Does work in which the files that the caller names are opened with the caller's rights: those that `openInput` and `readInput` open. What is below `own` this
 * process opens with its own rights. Without root's rights it cannot take those of others, and keeps its own.
 */
export async function withFileRights<Result>(
  { userId, groupIds }: FileRights,
  own: readonly OwnFolder[],
  act: () => Promise<Result>,
): Promise<Result> {
  const isOther = userId !== process.geteuid?.()
  return process.geteuid?.() === 0 && isOther ? callers.run({ userId, groupIds, own }, act) : act()
}

/** Opens a path synchronously, with the rights of the caller that named it. @throws SOURCE_INVALID for a symlink where none is followed, and system errors */
export function asCaller<Result>(path: string, act: (open: OpenFile) => Result): Result {
  const access = accessTo(path)
  if (access === undefined) return act((flags) => openSync(path, flags))
  if (access.kind === 'own') return act((flags) => openOwn(access.folder, access.absolute, flags))
  const { caller } = access
  const groups = process.getgroups?.() ?? []
  const groupId = process.getegid?.() ?? 0
  const capabilities = readCapabilities()
  try {
    takeIds(caller.groupIds, caller.groupIds[0] ?? caller.userId, caller.userId)
    setEffective(capabilities, NO_CAPABILITIES)
    return act((flags) => openOfCaller(path, flags))
  } finally {
    setEffective(capabilities, capabilities)
    takeIds(groups, groupId, 0)
  }
}

/** Refuses a directory that is read by other threads, which have the rights of this process. @throws SOURCE_INVALID for the directory of a caller */
export function requireOwnRights(path: string): void {
  const access = accessTo(path)
  if (access === undefined) return
  if (access.kind === 'own') {
    closeSync(openOwn(access.folder, access.absolute, O_PATH | constants.O_DIRECTORY))
    return
  }
  const { caller } = access
  throw new LoamError(
    'SOURCE_INVALID',
    `read ${path}: it is a directory, which the daemon reads with other rights than those of user ${caller.userId}`,
    { hint: `Send its content instead: tar -C ${path} -cf - . | loam put - NAME` },
  )
}

function accessTo(path: string): Access | undefined {
  const caller = callers.getStore()
  if (caller === undefined) return undefined
  const absolute = resolve(path)
  // The innermost one decides.
  const [folder] = caller.own
    .filter((own) => absolute === own.path || absolute.startsWith(`${own.path}/`))
    .toSorted((one, other) => other.path.length - one.path.length)
  return folder === undefined ? { kind: 'caller', caller } : { kind: 'own', folder, absolute }
}

/** Links of /proc to the files, the directory and the root of a process lead past the permissions of all directories. */
function openOfCaller(path: string, flags: number): number {
  try {
    const fd = openat2(AT_FDCWD, path, flags, RESOLVE_NO_MAGICLINKS)
    if (!isOfProc(fd)) return fd
    closeSync(fd)
  } catch (error) {
    throw isErrno(error, 'ELOOP') ? refusedLink(path, error) : error
  }
  throw refusedLink(path)
}

function refusedLink(path: string, cause?: unknown): LoamError {
  return new LoamError('SOURCE_INVALID', `read ${path}: it is in /proc, or has too many symlinks`, {
    cause,
    hint: 'Name the file itself.',
  })
}

/** linux/magic.h */
const PROC_SUPER_MAGIC = 0x9fa0

function isOfProc(fd: number): boolean {
  try {
    return statfsSync(`/proc/self/fd/${fd}`).type === PROC_SUPER_MAGIC
  } catch {
    // That of the kernel always tells.
    return false
  }
}

/** `absolute` has no `..`, which a symlink before it would lead elsewhere. */
function openOwn({ path, followsLinks }: OwnFolder, absolute: string, flags: number): number {
  if (followsLinks) return openSync(absolute, flags)
  const folderFd = openSync(path, O_PATH | constants.O_DIRECTORY)
  try {
    return openBeneath(folderFd, relative(path, absolute) || '.', flags)
  } catch (error) {
    if (isErrno(error, 'ELOOP'))
      throw new LoamError('SOURCE_INVALID', `read ${absolute}: it leads through a symlink`, {
        cause: error,
        hint: `Symlinks below ${path} are not followed: images and containers choose where they lead.`,
      })
    throw error
  } finally {
    closeSync(folderFd)
  }
}

// linux/capability.h: version and thread; effective, permitted and inheritable sets, of 32 capabilities each, twice.
const CAPABILITIES_VERSION = 0x20080522
const SET_BYTES = 4
const ALL_SETS_BYTES = 24
const NO_CAPABILITIES = Buffer.alloc(ALL_SETS_BYTES)

function capabilityHeader(): Buffer {
  const header = Buffer.alloc(8)
  header.writeUInt32LE(CAPABILITIES_VERSION, 0)
  return header
}

/** Returns the capabilities of this thread. */
function readCapabilities(): Buffer {
  const sets = Buffer.alloc(ALL_SETS_BYTES)
  libc().capget(capabilityHeader(), sets)
  return sets
}

/** Makes other capabilities effective in this thread. The permitted ones stay, so that they may become effective again. */
function setEffective(sets: Buffer, effective: Buffer): void {
  const changed = Buffer.from(sets)
  for (const half of [0, ALL_SETS_BYTES / 2]) effective.copy(changed, half, half, half + SET_BYTES)
  libc().capset(capabilityHeader(), changed)
}

/** The last step removes the right to do the others, or gives it back. */
function takeIds(groupIds: readonly number[], groupId: number, userId: number): void {
  const { setgroups, setfsgid, setfsuid } = libc()
  const list = Buffer.alloc(groupIds.length * 4)
  for (const [index, id] of groupIds.entries()) list.writeUInt32LE(id, index * 4)
  if (userId === 0) setfsuid(0)
  setgroups(groupIds.length, list)
  setfsgid(groupId)
  setfsuid(userId)
  // It returns the ID before it, and changes nothing for an impossible one.
  if (setfsuid(IMPOSSIBLE_ID) !== userId)
    throw new LoamError('UNSUPPORTED_SYSTEM', `read files as user ${userId}: this process must not`)
}

const IMPOSSIBLE_ID = 0xffff_ffff
