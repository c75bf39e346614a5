/*
 * Reading files for another user than that of this process. The kernel keeps the IDs by which it judges accesses to files for each thread
 * (setfsuid(2)), and without the ID 0 also drops the capabilities that go past permissions (capabilities(7)). So a synchronous call between
 * two changes of these IDs opens a file exactly when that user may, without a process of its own, and no other code runs meanwhile.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { resolve } from 'node:path'
import { LoamError } from '../errors/index.ts'
import { libc } from './libc.ts'

/** User and groups of a process. */
export interface FileRights {
  readonly userId: number
  /** The first one is that of files which it creates. */
  readonly groupIds: readonly number[]
}

interface Caller extends FileRights {
  /** Directories of this process itself: what is there does not belong to callers. */
  readonly own: readonly string[]
}

const callers = new AsyncLocalStorage<Caller>()

/**
 * Does work in which the files that the caller names are opened with the caller's rights: those that `openInput` and `readInput` open. What is below `own` this
 * process opens with its own. Without root's rights it cannot take those of others, and keeps its own.
 */
export async function withFileRights<Result>(
  { userId, groupIds }: FileRights,
  own: readonly string[],
  act: () => Promise<Result>,
): Promise<Result> {
  const isOther = userId !== process.geteuid?.()
  return process.geteuid?.() === 0 && isOther ? callers.run({ userId, groupIds, own }, act) : act()
}

/** Opens a path synchronously, with the rights of the caller that named it. */
export function asCaller<Result>(path: string, open: () => Result): Result {
  const caller = callerFor(path)
  if (caller === undefined) return open()
  const groups = process.getgroups?.() ?? []
  const groupId = process.getegid?.() ?? 0
  try {
    takeIds(caller.groupIds, caller.groupIds[0] ?? caller.userId, caller.userId)
    return open()
  } finally {
    takeIds(groups, groupId, 0)
  }
}

/** Refuses a directory that is read by other threads, which have the rights of this process. @throws SOURCE_INVALID for the directory of a caller */
export function requireOwnRights(path: string): void {
  const caller = callerFor(path)
  if (caller === undefined) return
  throw new LoamError(
    'SOURCE_INVALID',
    `read ${path}: it is a directory, which the daemon reads with other rights than those of user ${caller.userId}`,
    { hint: `Send its content instead: tar -C ${path} -cf - . | loam put - NAME` },
  )
}

function callerFor(path: string): Caller | undefined {
  const caller = callers.getStore()
  const absolute = resolve(path)
  const isOwn = caller?.own.some((folder) => absolute === folder || absolute.startsWith(`${folder}/`))
  return isOwn === true ? undefined : caller
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
