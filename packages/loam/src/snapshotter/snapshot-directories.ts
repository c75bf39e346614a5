import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, renameSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { limitedFolder, type LimitedFolders } from '../backends/index.ts'
import { type IngestArea, Removals, type StorePaths } from '../content/index.ts'
import { FileLock, removeTree } from '../linux/index.ts'
import type { SnapshotRecord } from '../metadata/index.ts'

/** Owner of the root directory of a snapshot. */
export interface RootOwner {
  readonly uid: number
  readonly gid: number
}

/** Which directories a snapshot has. */
export type DirectoryOwner = Pick<SnapshotRecord, 'id' | 'maxBytes'>

/** Its holder shows or replaces the directory with a limit. Every snapshot that had one has this file. */
const LIMITED_LOCK = 'limited.lock'

type StagedKind = Pick<SnapshotRecord, 'kind' | 'maxBytes'>

export interface SnapshotDirectoriesOptions {
  readonly paths: StorePaths
  readonly ingest: () => IngestArea
  readonly limited: LimitedFolders
}

/** Returns the directory of the files of a snapshot: that of an active one with a limit is where the limit is. */
export function snapshotFiles(paths: StorePaths, { id, maxBytes }: DirectoryOwner): string {
  const directory = join(paths.snapshots, String(id))
  return join(maxBytes === undefined ? directory : limitedFolder(directory), 'fs')
}

/** The directories of snapshots, `snapshots/<id>/{fs,work}`: created under a temporary name, renamed into place, and removed in the background. */
export class SnapshotDirectories {
  readonly #paths: StorePaths
  readonly #ingest: () => IngestArea
  readonly #limited: LimitedFolders
  readonly #removals = new Removals()

  constructor({ paths, ingest, limited }: SnapshotDirectoriesOptions) {
    this.#paths = paths
    this.#ingest = ingest
    this.#limited = limited
    mkdirSync(paths.snapshots, { recursive: true, mode: 0o700 })
  }

  /** The directory of a snapshot. */
  of(id: number): string {
    return join(this.#paths.snapshots, String(id))
  }

  /** The files of a snapshot, in the format of overlayfs. */
  files(snapshot: DirectoryOwner): string {
    return snapshotFiles(this.#paths, snapshot)
  }

  /** The work directory of overlayfs for an active snapshot. */
  work(snapshot: DirectoryOwner): string {
    return join(dirname(this.files(snapshot)), 'work')
  }

  /** Mounts the directory with the limit of an active snapshot, if it is there. What a kill has left incomplete is created when the snapshot is mounted. */
  async attachLimited(snapshot: DirectoryOwner): Promise<void> {
    const directory = this.of(snapshot.id)
    if (snapshot.maxBytes === undefined || existsSync(this.files(snapshot)) || !existsSync(directory)) return
    using _lock = await this.lockLimited(snapshot.id)
    this.#limited.attach(directory)
  }

  /** Waits until no other caller shows or replaces the directory with the limit of a snapshot. */
  async lockLimited(id: number): Promise<FileLock> {
    return FileLock.acquire(join(this.of(id), LIMITED_LOCK))
  }

  /** Ensures that the directory with the limit of an active snapshot is mounted, with all that is in it. Does nothing for one without a limit. */
  async showLimited(snapshot: DirectoryOwner, owner: () => RootOwner | undefined): Promise<void> {
    const { id, maxBytes } = snapshot
    if (maxBytes === undefined) return
    const directory = this.of(id)
    using _lock = await this.lockLimited(id)
    if (!this.#limited.attach(directory)) {
      // A kill or a power cut has left a part: no caller has got its mounts.
      await this.#limited.remove(directory)
      await this.#limited.create(directory, { sizeBytes: maxBytes })
    }
    const files = this.files(snapshot)
    if (existsSync(files)) return
    mkdirSync(this.work(snapshot), { recursive: true, mode: 0o711 })
    const unfinished = `${files}.new`
    await removeTree(unfinished)
    makeFiles(unfinished, owner())
    renameSync(unfinished, files)
  }

  /**
   * Puts a copy of the files of an active snapshot with a limit where they are without one. They are not used until the snapshot has none. The caller holds
   * its lock.
   */
  placeCopy(copy: string, id: number): void {
    const files = this.files({ id, maxBytes: undefined })
    if (existsSync(files)) this.discard(files)
    renameSync(copy, files)
  }

  /** Removes the directory with the limit of a snapshot that has none any more. A failure leaves it to the next `removeUnlimited`. */
  async removeLimited(id: number): Promise<void> {
    try {
      await this.#limited.remove(this.of(id))
    } catch {
      // The disk or another mount namespace is in the way; the snapshot does not need it.
    }
  }

  /** Removes what a kill has left of such directories. */
  async removeUnlimited(snapshots: Iterable<SnapshotRecord>): Promise<void> {
    for (const { id, kind, maxBytes } of snapshots) {
      if (kind !== 'committed' || maxBytes !== undefined) continue
      if (existsSync(join(this.of(id), LIMITED_LOCK))) await this.removeLimited(id)
    }
  }

  /** Names in the directory of all snapshots. */
  names(): string[] {
    return readdirSync(this.#paths.snapshots)
  }

  /** Creates the directories of a snapshot under a temporary name, and returns their path. */
  stage({ kind, maxBytes }: StagedKind, owner: RootOwner | undefined): string {
    const staged = this.#ingest().newPath('snapshot')
    mkdirSync(staged, { mode: 0o700 })
    // One with a limit is created in place: it may be a mount.
    if (maxBytes !== undefined) return staged
    makeFiles(join(staged, 'fs'), owner)
    if (kind === 'active') mkdirSync(join(staged, 'work'), { mode: 0o711 })
    return staged
  }

  /** Renames staged directories into place. An existing directory is left over from a crash, since ids are never reused: it is removed. */
  place(staged: string, id: number): void {
    const directory = this.of(id)
    if (existsSync(directory)) this.discard(directory)
    renameSync(staged, directory)
  }

  /** Removes a directory; its files are removed in the background. */
  discard(path: string): void {
    this.#removals.discard(this.#paths, path, async (removed) => this.#limited.remove(removed))
  }

  /** Waits for removals in progress. */
  async settle(): Promise<void> {
    await this.#removals.settle()
  }
}

function makeFiles(path: string, owner: RootOwner | undefined): void {
  mkdirSync(path)
  chmodSync(path, 0o755)
  if (owner !== undefined) chownSync(path, owner.uid, owner.gid)
}
