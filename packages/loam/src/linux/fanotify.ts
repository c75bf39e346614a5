/*
 * Pre-content events of fanotify(7), Linux 6.14: a read of a marked file waits until the group answers, so that the answer can come after
 * the data. Source: linux/fanotify.h, fs/notify/fanotify/fanotify_user.c.
 *   struct fanotify_event_metadata: u32 event_len, u8 version, u8 reserved, u16 metadata_len, u64 mask, s32 fd, s32 pid
 *   struct fanotify_event_info_range: u8 info_type (6), u8 pad, u16 len, u32 pad, u64 offset, u64 count
 *   struct fanotify_response: s32 fd, u32 response
 */
import { constants, readFileSync, writeSync } from 'node:fs'
import { isErrno } from '../errors/index.ts'
import { libc, O_CLOEXEC } from './libc.ts'

const FAN_CLOEXEC = 0x1
const FAN_NONBLOCK = 0x2
const FAN_CLASS_PRE_CONTENT = 0x8
const FAN_UNLIMITED_QUEUE = 0x10
const FAN_UNLIMITED_MARKS = 0x20
const FAN_MARK_ADD = 0x1
const FAN_MARK_REMOVE = 0x2
const FAN_PRE_ACCESS = 0x100000n
const INFO_TYPE_RANGE = 6
/** Not named by node:fs; generic, and so on every architecture that has the events. */
const O_LARGEFILE = 0o100000

/** Bytes of one event with its range. A read with fewer bytes than two events need gets exactly one. */
export const READ_EVENT_BYTES = 64

/** The answers to a read: it goes on, or fails with EIO. */
export const ALLOW_READ = 1
/** FAN_DENY_ERRNO(EIO) */
export const FAIL_READ = 0x5000002
export type ReadAnswer = typeof ALLOW_READ | typeof FAIL_READ

/** A read of a marked file, which waits for its answer. */
export interface ReadEvent {
  /** A descriptor of the file, which this process has to close; with it the event is answered. Negative: there is nothing to answer. */
  readonly fd: number
  readonly pid: number
  readonly offset: number
  /** 0 when the kernel does not say. */
  readonly count: number
}

/** Creates a group. Events wait as long as one process holds a descriptor of it; afterwards all reads go on. @throws system errors: EPERM without root, EINVAL before Linux 6.14 */
export function openReadGroup({ isBlocking = true }: { readonly isBlocking?: boolean } = {}): number {
  const unlimited = FAN_UNLIMITED_QUEUE | FAN_UNLIMITED_MARKS
  const flags = FAN_CLASS_PRE_CONTENT | FAN_CLOEXEC | unlimited | (isBlocking ? 0 : FAN_NONBLOCK)
  return libc().fanotifyInit(flags, constants.O_RDONLY | O_LARGEFILE | O_CLOEXEC)
}

/**
 * Makes reads of an open file wait for the group, from now on and by every process, except through descriptors that were opened before. @throws
 * system errors: ENOTSUP where the file system has no such events
 */
export function markReads(group: number, fd: number): void {
  libc().fanotifyMark(group, FAN_MARK_ADD, FAN_PRE_ACCESS, fd, null)
}

/** Lets reads of a file go on without the group. A file without a mark is not an error. */
export function unmarkReads(group: number, fd: number): void {
  try {
    libc().fanotifyMark(group, FAN_MARK_REMOVE, FAN_PRE_ACCESS, fd, null)
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
  }
}

/** Lists the inode numbers of the files that a group has marked (proc_pid_fdinfo(5)). */
export function listMarkedInodes(group: number): Set<number> {
  const lines = readFileSync(`/proc/self/fdinfo/${group}`, 'utf8').matchAll(/^fanotify ino:([0-9a-f]+) /gm)
  return new Set([...lines].map(([, inode = '']) => Number.parseInt(inode, 16)))
}

/** Reads one event from the bytes at an offset; undefined if there is none. */
export function parseReadEvent(bytes: Buffer, at: number): ReadEvent | undefined {
  const eventBytes = bytes.readUInt32LE(at)
  if (eventBytes === 0) return undefined
  const info = at + bytes.readUInt16LE(at + 6)
  const event = { fd: bytes.readInt32LE(at + 16), pid: bytes.readInt32LE(at + 20) }
  if (info >= at + eventBytes || bytes.readUInt8(info) !== INFO_TYPE_RANGE)
    return { ...event, offset: 0, count: 0 }
  return { ...event, offset: readNumber(bytes, info + 8), count: readNumber(bytes, info + 16) }
}

/** u64; files of 2^53 bytes do not exist. */
function readNumber(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 2 ** 32
}

const response = Buffer.alloc(8)

/** Answers the oldest event that was read with this number. Returns false if there is none. */
export function answerRead(group: number, fd: number, answer: ReadAnswer): boolean {
  response.writeInt32LE(fd, 0)
  response.writeUInt32LE(answer, 4)
  try {
    writeSync(group, response)
    return true
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false
    throw error
  }
}
