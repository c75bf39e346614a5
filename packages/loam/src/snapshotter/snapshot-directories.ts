import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { type IngestArea, Removals, type StorePaths } from '../content/index.ts'

/** Owner of the root directory of a snapshot. */
export interface RootOwner {
  readonly uid: number
  readonly gid: number
}

/** The directories of snapshots, `snapshots/<id>/{fs,work}`: created under a temporary name, renamed into place, and removed in the background. */
export class SnapshotDirectories {
  readonly #paths: StorePaths
  readonly #ingest: () => IngestArea
  readonly #removals = new Removals()

  constructor(paths: StorePaths, ingest: () => IngestArea) {
    this.#paths = paths
    this.#ingest = ingest
    mkdirSync(paths.snapshots, { recursive: true, mode: 0o700 })
  }

  /** The directory of a snapshot. */
  of(id: number): string {
    return join(this.#paths.snapshots, String(id))
  }

  /** The files of a snapshot, in the format of overlayfs. */
  files(id: number): string {
    return join(this.of(id), 'fs')
  }

  /** The work directory of overlayfs for an active snapshot. */
  work(id: number): string {
    return join(this.of(id), 'work')
  }

  /** Names in the directory of all snapshots. */
  names(): string[] {
    return readdirSync(this.#paths.snapshots)
  }

  /** Creates the directories of a snapshot under a temporary name, and returns their path. */
  stage(kind: 'active' | 'view', owner: RootOwner | undefined): string {
    const staged = this.#ingest().newPath('snapshot')
    mkdirSync(staged, { mode: 0o700 })
    const files = join(staged, 'fs')
    mkdirSync(files)
    chmodSync(files, 0o755)
    if (kind === 'active') mkdirSync(join(staged, 'work'), { mode: 0o711 })
    if (owner !== undefined) chownSync(files, owner.uid, owner.gid)
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
    this.#removals.discard(this.#paths, path)
  }

  /** Waits for removals in progress. */
  async settle(): Promise<void> {
    await this.#removals.settle()
  }
}
