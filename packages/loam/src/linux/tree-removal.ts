import { closeSync, constants, lstatSync, openSync, readlinkSync } from 'node:fs'
import { rmdir, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { isErrno } from '../errors/index.ts'
import { clearProtection, clearProtectionAt } from './file-flags.ts'
import { FileStat } from './file-stat.ts'
import { AT_REMOVEDIR, AT_SYMLINK_NOFOLLOW, libc, O_CLOEXEC, O_PATH } from './libc.ts'
import { TimeSlice } from './time-slice.ts'
import { TreeWalk } from './tree-walk.ts'
import { unmountAll } from './unmount.ts'

const OPEN_PARENT = constants.O_RDONLY | constants.O_DIRECTORY | O_CLOEXEC
const OPEN_TOP = OPEN_PARENT | constants.O_NOFOLLOW
const OPEN_PATH = O_PATH | constants.O_NOFOLLOW | O_CLOEXEC
const OWNER_ALL = 0o700
const MNT_DETACH = 2
/** Another process may keep creating files in the tree. */
const MAX_PASSES = 20
/** Mounts over each other at one place. */
const MAX_MOUNTS = 100
/** A file system takes its time to free so much: some 20 ms for each GiB on ext4, and more on a slow disk. */
const LARGE_BYTES = 64 << 20
/** So many names of each tree another thread removes, too: a name may have to wait for the file system's journal. For all names of a large tree that would take several times as long. */
const HANDED_OVER = 64

export interface RemovalOptions {
  /** Leaves files that their flags protect (immutable, append-only), as rm does: for trees that belong to the user. */
  readonly keepsProtected?: boolean
}

/**
 * Removes a file or a directory with its content, of any depth and width, even while a hostile process changes it; see `TreeWalk`. Mounts in
 * it are unmounted; one that cannot be unmounted is not entered. A file that cannot be removed does not keep others from being removed. A path that
 * does not exist is not an error, nor is one that others remove at the same time. This thread does other work every few milliseconds, and another
 * one removes large files and small trees.
 * @throws the first system error, with the number of errors, after everything else was removed
 */
export async function removeTree(path: string, options: RemovalOptions = {}): Promise<void> {
  const slice = new TimeSlice()
  const steps = removing(path, options)
  for (let step = steps.next(); step.done !== true; ) {
    const isRemoved = step.value !== undefined && (await tryRemoveElsewhere(step.value))
    await slice.rest()
    step = steps.next(isRemoved)
  }
}

/** The same at once, for threads that do nothing else, and for small trees. */
export function removeTreeSync(path: string, options: RemovalOptions = {}): void {
  for (const _step of removing(path, options));
}

/** What another thread may remove. */
interface Removable {
  readonly path: Buffer
  readonly isDirectory: boolean
}

/** What `removing` yields, and gets: whether another thread has removed it. By then the name may be that of somebody else's file. */
type Removing<Result = void> = Generator<Removable | undefined, Result, boolean | undefined>

/** A failure is found, and told, when it is removed again. */
async function tryRemoveElsewhere({ path, isDirectory }: Removable): Promise<boolean> {
  try {
    await (isDirectory ? rmdir(path) : unlink(path))
    return true
  } catch {
    return false
  }
}

/** Yields after each file, and before one that another thread should remove. */
function* removing(path: string, options: RemovalOptions): Removing {
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return
  const parentFd = tryOpenParent(path)
  if (parentFd === undefined) return
  try {
    const parent = FileStat.of(parentFd)
    // A folder of the same file system that is mounted in the tree would look like a part of it.
    if (!parent.knowsMount) unmountAll(join(readlinkSync(`/proc/self/fd/${parentFd}`), basename(path)))
    yield* new TreeRemoval(path, parentFd, parent, options).run()
  } finally {
    closeSync(parentFd)
  }
}

function tryOpenParent(path: string): number | undefined {
  try {
    return openSync(dirname(path), OPEN_PARENT)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}

/** The result for a name: it is gone, is a directory that is not empty, or was left and counted. */
type Removed = 'gone' | 'directory' | 'left'

class TreeRemoval {
  readonly #path: string
  readonly #parentFd: number
  readonly #parent: FileStat
  readonly #options: RemovalOptions
  #failure: NodeJS.ErrnoException | undefined
  #failures = 0
  #handedOver = 0

  constructor(path: string, parentFd: number, parent: FileStat, options: RemovalOptions) {
    this.#path = path
    this.#parentFd = parentFd
    this.#parent = parent
    this.#options = options
  }

  *run(): Removing {
    const name = Buffer.from(`${basename(this.#path)}\0`)
    if (isLarge(this.#parentFd, name)) {
      const isRemoved = yield { path: pathOf(this.#parentFd, name), isDirectory: false }
      if (isRemoved === true) return
    }
    for (let pass = 1; this.#remove(this.#parentFd, name, 0) === 'directory'; pass += 1) {
      yield* this.#empty(name)
      const removed = yield* this.#removeAnywhere(this.#parentFd, name, true)
      if (removed !== 'directory' || this.#failures > 0) break
      if (pass === MAX_PASSES) this.#fail(busy())
    }
    if (this.#failure !== undefined) throw this.#describe(this.#failure)
  }

  *#empty(top: Buffer): Removing {
    using walk = this.#open(top)
    if (walk === undefined) return
    for (;;) {
      const listed = this.#next(walk)
      if (listed !== undefined) {
        const isOther =
          !listed.isDirectory && (yield* this.#removeAnywhere(walk.fd, listed.name, false)) !== 'directory'
        if (!isOther) this.#enter(walk, listed.name)
      } else if (walk.depth > 0) {
        const { depth, name } = walk
        walk.leave()
        // It may have been moved: then the walk finds it where it is now.
        if (walk.depth === depth - 1) yield* this.#removeAnywhere(walk.fd, name, true)
      } else return
      yield
    }
  }

  /** Another thread removes the first names, and large files; this one the rest, and what the other one could not remove. */
  *#removeAnywhere(dirFd: number, name: Buffer, isDirectory: boolean): Removing<Removed> {
    if (this.#handedOver < HANDED_OVER || (!isDirectory && isLarge(dirFd, name))) {
      this.#handedOver += 1
      const isRemoved = yield { path: pathOf(dirFd, name), isDirectory }
      if (isRemoved === true) return 'gone'
    }
    return this.#remove(dirFd, name, isDirectory ? AT_REMOVEDIR : 0)
  }

  #open(name: Buffer): TreeWalk | undefined {
    for (let tries = 1; tries <= 2; tries += 1) {
      const fd = this.#attempt(() => {
        this.#makeReadable(this.#parentFd, name)
        return libc().openat(this.#parentFd, name, OPEN_TOP, 0)
      })
      if (fd === undefined) return undefined
      const walk = new TreeWalk(fd, 'removing')
      // Removing files inside a mount would empty a foreign file system.
      if (walk.top.isInMountOf(this.#parent)) return walk
      walk[Symbol.dispose]()
      this.#attempt(() => {
        unmountAt(this.#parentFd, name)
      })
    }
    return undefined
  }

  #next(walk: TreeWalk): ReturnType<TreeWalk['next']> {
    return this.#attempt(() => walk.next())
  }

  #enter(walk: TreeWalk, name: Buffer): void {
    const isEntered = this.#attempt(() => {
      this.#makeReadable(walk.fd, name)
      return walk.enter(name)
    })
    if (isEntered !== false) return
    // Another file has the name now, or is mounted there; the next pass handles it if it is a directory.
    this.#attempt(() => {
      unmountAt(walk.fd, name)
    })
    this.#remove(walk.fd, name, 0)
  }

  /** Without root a directory's own mode counts, also for its owner, who may change it. */
  #makeReadable(dirFd: number, name: Buffer): void {
    if (process.geteuid?.() === 0) return
    try {
      libc().fchmodat(dirFd, name, OWNER_ALL, AT_SYMLINK_NOFOLLOW)
    } catch (error) {
      // Another owner, or a kernel without fchmodat2: a directory that cannot be opened is counted.
      if (!isErrno(error, 'EPERM', 'ENOTSUP', 'ENOSYS', 'ENOENT')) throw error
    }
  }

  #remove(dirFd: number, name: Buffer, flags: number): Removed {
    for (let isRepeated = false; ; isRepeated = true) {
      try {
        libc().unlinkat(dirFd, name, flags)
        return 'gone'
      } catch (error) {
        if (isErrno(error, 'ENOENT')) return 'gone'
        if (isErrno(error, 'EISDIR', 'ENOTEMPTY', 'EEXIST', 'ENOTDIR')) return 'directory'
        if (isErrno(error, 'EPERM') && flags === 0 && isDirectoryAt(dirFd, name)) return 'directory'
        if (!isRepeated && this.#makeRemovable(dirFd, name, error)) continue
        this.#fail(error)
        return 'left'
      }
    }
  }

  /** Returns whether it is worth another try. */
  #makeRemovable(dirFd: number, name: Buffer, error: unknown): boolean {
    const isMount = isErrno(error, 'EBUSY')
    const isProtected = isErrno(error, 'EPERM') && this.#options.keepsProtected !== true
    if (!isMount && !isProtected) return false
    const attempted = this.#attempt(() => {
      if (isMount) unmountAt(dirFd, name)
      else {
        clearProtectionAt(dirFd, name)
        // Its directory may be the one that is protected; the one above the tree is not ours.
        if (dirFd !== this.#parentFd) clearProtection(dirFd)
      }
      return true
    })
    return attempted === true
  }

  #attempt<T>(act: () => T): T | undefined {
    try {
      return act()
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) this.#fail(error)
      return undefined
    }
  }

  #fail(error: unknown): void {
    this.#failures += 1
    this.#failure ??= error instanceof Error ? error : new Error(String(error))
  }

  #describe(failure: NodeJS.ErrnoException): NodeJS.ErrnoException {
    const others = this.#failures === 1 ? '' : ` (and ${this.#failures - 1} more)`
    const error: NodeJS.ErrnoException = new Error(`${failure.message} in ${this.#path}${others}`, {
      cause: failure,
    })
    const { code, errno, syscall } = failure
    return Object.assign(error, { code, errno, syscall, path: this.#path })
  }
}

/** Returns whether a name is that of a large file, which has no other name. */
function isLarge(dirFd: number, name: Buffer): boolean {
  try {
    const stat = FileStat.at(dirFd, name)
    return stat.isFile && stat.links === 1 && stat.diskBytes >= LARGE_BYTES
  } catch {
    return false
  }
}

/** A path that leads through the descriptor of the directory, as `unlinkat` does. */
function pathOf(dirFd: number, name: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`/proc/self/fd/${dirFd}/`), name.subarray(0, -1)])
}

function isDirectoryAt(dirFd: number, name: Buffer): boolean {
  try {
    return FileStat.at(dirFd, name).isDirectory
  } catch {
    return false
  }
}

/** Unmounts the mounts at a name, by a descriptor for it: the name may refer to another file by the next call. */
function unmountAt(dirFd: number, name: Buffer): void {
  const directory = FileStat.of(dirFd)
  for (let count = 0; count < MAX_MOUNTS; count += 1) {
    const fd = libc().openat(dirFd, name, OPEN_PATH, 0)
    try {
      if (FileStat.of(fd).isInMountOf(directory)) return
      libc().umount2(`/proc/self/fd/${fd}`, MNT_DETACH)
    } finally {
      closeSync(fd)
    }
  }
}

function busy(): NodeJS.ErrnoException {
  return Object.assign(new Error('ENOTEMPTY: another process keeps creating files in it, unlinkat'), {
    code: 'ENOTEMPTY',
    errno: -39,
    syscall: 'unlinkat',
  })
}
