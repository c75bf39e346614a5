// Folders for the writes of a container that hold no more than a number of bytes.
import { closeSync, existsSync, ftruncateSync, mkdirSync, openSync, renameSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { lockPath, type StorePaths } from '../content/index.ts'
import { isErrno, LoamError } from '../errors/index.ts'
import {
  createFolders,
  createSubvolume,
  enforcesProjectQuota,
  FileLock,
  fileSystemUsage,
  findProgram,
  forgetProject,
  hasSubvolumeQuota,
  isMountPoint,
  isMachineRoot,
  isSubvolume,
  libc,
  limitProject,
  limitSubvolume,
  mountImage,
  programFailed,
  removeSubvolume,
  removeTree,
  runProgram,
  toolEnvironment,
  unmountAllLater,
} from '../linux/index.ts'

/** How a folder is limited: a project quota of xfs or ext4, a subvolume of btrfs with a quota group, or a file system in a file of this size. */
export type LimitMethod = 'project' | 'subvolume' | 'image'

/** How the store limits what containers write, or why it cannot. */
export type SizeLimitProbe =
  | {
      /** It works. */
      readonly isSupported: true
      /** What it uses. */
      readonly method: LimitMethod
    }
  | {
      /** It does not work. */
      readonly isSupported: false
      /** Why not, as a sentence. */
      readonly reason: string
    }

/** A file system with a journal needs so much. */
export const MIN_SIZE_BYTES = 2 << 20

const FOLDER = 'limited'
const IMAGE = 'limited.img'
/** Ending of the names of what is not complete. */
const UNFINISHED = '.new'
const TIMEOUT_MS = 600_000

export interface LimitedFoldersOptions {
  readonly paths: StorePaths
  /** Where to look up programs. */
  readonly searchPath: string
  /** Allocate all bytes of a limit when a folder is created. */
  readonly reserves: boolean
}

/** Returns the folder with a limit that is in another folder. */
export function limitedFolder(base: string): string {
  return join(base, FOLDER)
}

/**
 * Folders of the store with a limit of the bytes in them. Where the file system of the store has quotas, a folder counts for a quota of its own. Otherwise
 * it is the mount of an ext4 file system in a file beside it, which is sparse unless its bytes are reserved. The kernel and the disk say what there is:
 * after a kill at any point `remove` removes all of it.
 */
export class LimitedFolders {
  readonly #options: LimitedFoldersOptions

  constructor(options: LimitedFoldersOptions) {
    this.#options = options
  }

  /** Returns how a new folder is limited, or why none can be. */
  probe(): SizeLimitProbe {
    if (!isMachineRoot()) return { isSupported: false, reason: 'quotas and mounts need root' }
    const method = this.#chooseMethod()
    if (method !== 'image' || this.#findMke2fs() !== undefined) return { isSupported: true, method }
    return { isSupported: false, reason: 'the file system has no quotas, and mke2fs is not on the PATH' }
  }

  /** A quota reserves nothing. */
  #chooseMethod(): LimitMethod {
    const { paths, reserves } = this.#options
    if (reserves) return 'image'
    if (enforcesProjectQuota(paths.root)) return 'project'
    return hasSubvolumeQuota(paths.root) ? 'subvolume' : 'image'
  }

  #findMke2fs(): string | undefined {
    return findProgram('mke2fs', this.#options.searchPath)
  }

  /**
   * Creates the limited folder in a folder, which may exist. On failure parts of it may be left: the caller calls `remove`.
   * @throws USAGE for more bytes than the file system of the store has, if it has no quotas, UNSUPPORTED_SYSTEM, PROGRAM_FAILED, CANCELED, NO_SPACE and other system errors
   */
  async create(
    base: string,
    { sizeBytes, signal }: { readonly sizeBytes: number; readonly signal?: AbortSignal | undefined },
  ): Promise<void> {
    await createFolders([base])
    const unfinished = `${limitedFolder(base)}${UNFINISHED}`
    switch (this.#chooseMethod()) {
      case 'project': {
        await createFolders([unfinished])
        using _lock = await FileLock.acquire(lockPath(this.#options.paths, 'limits', 'project'), { signal })
        limitProject(unfinished, sizeBytes)
        break
      }
      case 'subvolume':
        createSubvolume(unfinished)
        limitSubvolume(unfinished, sizeBytes)
        break
      case 'image':
        await this.#createImage(join(base, IMAGE), sizeBytes, signal)
        this.attach(base)
        return
    }
    // Only a folder with its limit has this name.
    renameSync(unfinished, limitedFolder(base))
  }

  async #createImage(image: string, sizeBytes: number, signal: AbortSignal | undefined): Promise<void> {
    const program = this.#findMke2fs()
    if (program === undefined) {
      throw new LoamError(
        'UNSUPPORTED_SYSTEM',
        'limit a writable layer: the file system has no quotas, and mke2fs is not on the PATH',
        { hint: 'Install e2fsprogs, or put the store on a file system with project quotas.' },
      )
    }
    // The tables of an ext4 file system grow with its size, on the disk and in the kernel, however little is in it.
    const { totalBytes } = fileSystemUsage(this.#options.paths.root)
    if (sizeBytes > totalBytes) {
      throw new LoamError(
        'USAGE',
        `limit a writable layer to ${sizeBytes} bytes: the file system of the store has ${totalBytes}`,
      )
    }
    const unfinished = `${image}${UNFINISHED}`
    allocate(unfinished, sizeBytes, this.#options.reserves)
    // Nothing is written but what is not zero: the rest of the file stays a hole, and what is reserved stays reserved.
    const features = ['-E', 'nodiscard,lazy_itable_init=1,lazy_journal_init=1']
    const result = await runProgram(program, ['-q', '-F', '-t', 'ext4', '-m', '0', ...features, unfinished], {
      env: toolEnvironment(this.#options.searchPath),
      timeoutMs: TIMEOUT_MS,
      signal,
    })
    if (result.status !== 0) throw programFailed('limit a writable layer', program, result)
    renameSync(unfinished, image)
  }

  /** Mounts the limited folder in a folder, if it is a mount that is not there. Returns false if it does not exist. @throws system errors */
  attach(base: string): boolean {
    const [folder, image] = [limitedFolder(base), join(base, IMAGE)]
    const file = statSync(image, { throwIfNoEntry: false })
    if (file === undefined) return existsSync(folder)
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    if (isMountPoint(folder)) return true
    // What a container removes is free on this machine, too, unless it is reserved.
    const isWhole = file.blocks * 512 >= file.size
    const flags = ['noinit_itable', ...(isWhole ? [] : ['discard'])]
    mountImage({ type: 'ext4', image, target: folder, flags })
    return true
  }

  /** Unmounts and removes the limited folder in a folder, with its limit. Nothing happens if there is none. */
  async remove(base: string): Promise<void> {
    const [folder, image] = [limitedFolder(base), join(base, IMAGE)]
    for (const path of [folder, `${folder}${UNFINISHED}`]) {
      if (!existsSync(path)) continue
      await unmountAllLater(path)
      forgetProject(path)
      if (isSubvolume(path)) tryRemoveSubvolume(path)
      await removeTree(path)
    }
    for (const path of [image, `${image}${UNFINISHED}`]) await removeTree(path)
  }
}

function allocate(path: string, sizeBytes: number, reserves: boolean): void {
  const fd = openSync(path, 'w', 0o600)
  try {
    ftruncateSync(fd, sizeBytes)
    if (reserves) libc().fallocate(fd, 0, 0, sizeBytes)
  } finally {
    closeSync(fd)
  }
}

/** The caller removes it name by name then. */
function tryRemoveSubvolume(path: string): void {
  try {
    removeSubvolume(path)
  } catch (error) {
    if (!isErrno(error, 'ENOTEMPTY', 'EBUSY', 'EPERM')) throw error
  }
}
