import { statSync } from 'node:fs'
import { artifactPath } from '../content/index.ts'
import type { LoamError } from '../errors/index.ts'
import type { DiffId } from '../image/index.ts'
import { ALLOW_READ, FAIL_READ, readMountTable } from '../linux/index.ts'
import type { HandlerOptions } from './handler-options.ts'
import { showsImageOf } from './poisoned-mounts.ts'
import type { ReadNeeds } from './read-answers.ts'
import { neededOf, type ServedLayer } from './served-layer.ts'
import type { UnopenedLayers } from './unopened-layers.ts'

/** Who waits for a layer as a whole. */
export interface Completion {
  readonly done: PromiseWithResolvers<void>
  readonly onProgress: (presentBytes: number, totalBytes: number) => void
}

/** A layer that is served, and its state. */
export interface ServedEntry {
  readonly layer: ServedLayer
  readonly completions: Set<Completion>
  /** Why its reads fail for good: its index has lied. */
  wrong: LoamError | undefined
  /** Whether the database has the denial of its index, which may be lifted there. */
  isDenied: boolean
  verifying: Promise<void> | undefined
  /** Whether its spans were compared with their sums once more, after its tar had another digest. */
  isCheckedAgain: boolean
}

/** The layers that a handler serves. */
export class ServedLayers {
  readonly #options: Pick<HandlerOptions, 'metadata' | 'paths'>
  readonly #unopened: UnopenedLayers
  readonly #byDiffId = new Map<DiffId, ServedEntry>()
  readonly #byInode = new Map<number, ServedEntry>()
  /** Files that were complete when their mark went; reads of them may still be on their way. */
  readonly #completeInodes = new Set<number>()

  constructor(options: Pick<HandlerOptions, 'metadata' | 'paths'>, unopened: UnopenedLayers) {
    this.#options = options
    this.#unopened = unopened
  }

  get all(): readonly ServedEntry[] {
    return [...this.#byDiffId.values()]
  }

  find(diffId: DiffId): ServedEntry | undefined {
    return this.#byDiffId.get(diffId)
  }

  add(entry: ServedEntry): void {
    const { diffId, inode } = entry.layer
    this.#byDiffId.set(diffId, entry)
    this.#byInode.set(inode, entry)
    this.#completeInodes.delete(inode)
  }

  /** The mark of a complete layer is going to go. */
  noteComplete({ inode }: ServedLayer): void {
    this.#completeInodes.add(inode)
  }

  drop(layer: ServedLayer): void {
    this.#byDiffId.delete(layer.diffId)
    if (this.#byInode.get(layer.inode)?.layer === layer) this.#byInode.delete(layer.inode)
  }

  /** Tells who waits for all of a layer how much of it is here. */
  tellProgress({ diffId, presentBytes, tarBytes }: ServedLayer): void {
    for (const { onProgress } of this.find(diffId)?.completions ?? []) onProgress(presentBytes, tarBytes)
  }

  /** Tells who waits for all of a layer that its data does not come. They may have another source; its reads wait on. */
  giveUp(diffId: DiffId, failure: LoamError): void {
    for (const { done } of this.find(diffId)?.completions ?? []) done.reject(failure)
  }

  /** Returns whether a mount shows images of the store. */
  areShown(): boolean {
    return readMountTable().some((mount) => showsImageOf(this.#options.paths, mount))
  }

  /** Returns what a read of a file needs; of inode 0: of a file that is not known. */
  needsOf(inode: number, offset: number, count: number): ReadNeeds {
    const entry = this.#byInode.get(inode)
    if (entry !== undefined)
      return entry.wrong === undefined ? [neededOf(entry.layer, offset, count)] : FAIL_READ
    // Its process ended before it knew the file: with this range of all files it is right in any case.
    if (inode === 0 && this.#unopened.size > 0) return FAIL_READ
    if (inode === 0) return this.all.map(({ layer }) => neededOf(layer, offset, count))
    return this.#completeInodes.has(inode) || this.#isOfCompleteLayer(inode) ? ALLOW_READ : FAIL_READ
  }

  /** Returns whether a file is the tar of a layer that is complete: reads of it may still be on their way when its mark goes. */
  #isOfCompleteLayer(inode: number): boolean {
    const { metadata, paths } = this.#options
    const complete = metadata.layers.list().filter(({ data }) => data === 'complete')
    return complete.some(
      ({ diffId }) => statSync(artifactPath(paths, diffId, 'tar'), { throwIfNoEntry: false })?.ino === inode,
    )
  }
}
