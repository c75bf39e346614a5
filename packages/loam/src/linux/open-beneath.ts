/*
 * Opens paths that other processes may change meanwhile. The kernel resolves a path in one call (openat2), and all that
 * follows works with the descriptor: a text that was checked may mean something else a moment later.
 */
import { closeSync, constants, fstatSync, openSync, type Stats } from 'node:fs'
import { isErrno } from '../errors/index.ts'
import { AT_FDCWD, libc, O_CLOEXEC, O_PATH } from './libc.ts'

// linux/openat2.h
export const RESOLVE_NO_MAGICLINKS = 2
const RESOLVE_NO_SYMLINKS = 4
const RESOLVE_BENEATH = 8
export const RESOLVE_IN_ROOT = 16
/** The kernel gives up on `..` if anything was renamed meanwhile, anywhere; an attacker can do that all the time. */
const MAX_TRIES = 64
/** PATH_MAX is 4096 with the NUL; paths in a container may be longer, and are resolved in pieces. */
const MAX_PIECE_BYTES = 4000

/** Opens a path beneath a directory as `resolve` says. @throws system errors; EAGAIN if renames never stop */
export function openat2(dirFd: number, path: Buffer | string, flags: number, resolve: number): number {
  // struct open_how: flags, mode, resolve, 8 bytes each
  const how = Buffer.alloc(24)
  how.writeBigUInt64LE(BigInt(flags | O_CLOEXEC), 0)
  how.writeBigUInt64LE(BigInt(resolve), 16)
  const terminated = typeof path === 'string' ? path : Buffer.concat([path, NUL])
  for (let tried = 1; ; tried += 1) {
    try {
      return libc().openat2(dirFd, terminated, how, how.length)
    } catch (error) {
      if (!isErrno(error, 'EAGAIN') || tried === MAX_TRIES) throw error
    }
  }
}

/**
 * Opens an absolute path of any length, no part of which is a symlink. With O_PATH in `flags` a device or a pipe is not itself opened.
 * @throws ELOOP for a symlink, and other system errors
 */
export function openWithoutLinks(path: Buffer | string, flags: number): number {
  return openInPieces(AT_FDCWD, Buffer.from(path), flags, RESOLVE_NO_SYMLINKS)
}

/** The same for a path relative to a directory, which it cannot leave. @throws ELOOP for a symlink, EXDEV for `..` above it, and other system errors */
export function openBeneath(dirFd: number, path: Buffer | string, flags: number): number {
  return openInPieces(dirFd, Buffer.from(path), flags, RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH)
}

function openInPieces(start: number, path: Buffer, flags: number, resolve: number): number {
  let dirFd = start
  try {
    for (let from = 0; ; ) {
      const end = endOfPiece(path, from)
      const piece = path.subarray(from, end)
      if (end === path.length) return openat2(dirFd, piece, flags, resolve)
      const next = openat2(dirFd, piece, O_PATH | constants.O_DIRECTORY, resolve)
      if (dirFd !== start) closeSync(dirFd)
      dirFd = next
      from = end + 1
    }
  } finally {
    if (dirFd !== start) closeSync(dirFd)
  }
}

/** A piece has only whole names; a name has at most 255 bytes. */
function endOfPiece(path: Buffer, from: number): number {
  if (path.length - from <= MAX_PIECE_BYTES) return path.length
  const slash = path.lastIndexOf('/', from + MAX_PIECE_BYTES)
  return slash > from ? slash : path.length
}

/**
 * Opens the file of an O_PATH descriptor for reading, if it is a regular file; returns undefined for all others, which are not opened: a pipe
 * would wait, and opening a device may do anything. It is the same file that was examined, whatever its name is by now. `path` is
 * for errors; if another process holds a lease on the file, the call fails with EAGAIN at once.
 */
export function reopenRegular(
  place: number,
  path: string,
): { readonly fd: number; readonly stats: Stats } | undefined {
  const stats = fstatSync(place)
  if (!stats.isFile()) return undefined
  const link = `/proc/self/fd/${place}`
  try {
    return { fd: openSync(link, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY), stats }
  } catch (error) {
    if (error instanceof Error) error.message = error.message.replace(link, path)
    throw error
  }
}

const NUL = Buffer.alloc(1)
