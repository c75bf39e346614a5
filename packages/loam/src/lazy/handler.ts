import { closeSync, fstatSync } from 'node:fs'
import { artifactPath } from '../content/index.ts'
import { LoamError, toLoamError } from '../errors/index.ts'
import type { DiffId } from '../image/index.ts'
import { listMarkedInodes, markReads, openRegular, unlinkIfThere, unmarkReads } from '../linux/index.ts'
import type { LazySource } from '../metadata/index.ts'
import { FillThreads } from './fill-threads.ts'
import { LayerVerifier } from './layer-verifier.ts'
import { ProfileRecorder } from './profile-recorder.ts'
import type { LazyStatus } from './protocol.ts'
import { ReadAnswers } from './read-answers.ts'
import { claimAll, closeServedLayer, dropAll, openServedLayer, type ServedLayer } from './served-layer.ts'
import { type Completion, type ServedEntry, ServedLayers } from './served-layers.ts'
import { SpanFiller } from './span-filler.ts'
import { UnopenedLayers } from './unopened-layers.ts'
import type { HandlerOptions } from './handler-options.ts'
import { Turns } from './turns.ts'
import { unmountAndReport } from './poisoned-mounts.ts'
import { cannotWait, openGroup } from './read-group.ts'
import { wrongIndex } from './wrong-index.ts'
import type { WaitingRead } from './waiting-reads.ts'
import { runPeriodically } from './periodic.ts'
import { report } from './report.ts'

/** Between tries of what has failed, and looks at what has changed. */
const AGAIN_MS = 5_000

/** A request to serve layers. */
interface AskedLayers {
  readonly diffIds: readonly DiffId[]
  readonly done: PromiseWithResolvers<void>
  /** Those that it has opened. */
  readonly opened: ServedLayer[]
}

/** Serves the partial layers of a store: lets their reads wait, fills them, and makes them ordinary layers when they are complete. */
export class LazyHandler {
  readonly #options: HandlerOptions
  readonly #group: number
  readonly #answers: ReadAnswers
  readonly #filler: SpanFiller
  readonly #verifier: LayerVerifier
  readonly #profiles: ProfileRecorder
  readonly #layers: ServedLayers
  readonly #unopened = new UnopenedLayers()
  #poisoned: readonly string[] = []
  readonly #asked: AskedLayers[] = []
  /** Changes of what is served. */
  readonly #turns = new Turns()

  private constructor(options: HandlerOptions, group: number) {
    this.#options = options
    this.#group = group
    const { metadata, lazyPaths, stallTimeoutMs } = options
    this.#layers = new ServedLayers(options, this.#unopened)
    this.#profiles = new ProfileRecorder(metadata)
    this.#answers = new ReadAnswers({
      group,
      journal: lazyPaths.journal,
      descriptorLimit: options.descriptorLimit,
      needsOf: (inode, offset, count) => this.#layers.needsOf(inode, offset, count),
      onRead: (read) => this.#onRead(read),
    })
    this.#filler = new SpanFiller({
      waiting: this.#answers.waiting,
      threads: new FillThreads(),
      withSource: async (layer, tries, act) => options.withSource(layer.source, tries, act),
      stallTimeoutMs,
      onFilled: (layer) => this.#verifier.begin(layer),
      onGivenUp: ({ diffId }, failure) => this.#layers.giveUp(diffId, failure),
      onProgress: (layer) => this.#layers.tellProgress(layer),
    })
    this.#verifier = new LayerVerifier({
      ...options,
      layers: this.#layers,
      filler: this.#filler,
      profiles: this.#profiles,
      fillAgain: (layer) => this.#fill(layer),
      onComplete: (entry) => this.#onComplete(entry),
    })
  }

  /** Starts to serve, with what the handler before has left. @throws LAZY_UNAVAILABLE where the kernel cannot, system errors */
  static async start(options: HandlerOptions): Promise<LazyHandler> {
    const kept = options.keeper.takeOver()
    const handler = new LazyHandler(options, kept?.group ?? openGroup())
    for (const [diffId, tarFd] of kept?.tars ?? []) handler.#resume(diffId, tarFd)
    handler.#findPoisoned()
    // Before the reads that the handler before has left: they wait for what is being filled.
    for (const { layer, wrong } of handler.#layers.all) if (wrong === undefined) handler.#fill(layer)
    handler.#answers.takeOver(kept !== undefined)
    handler.#answers.start()
    await handler.#keep()
    runPeriodically('look at what is served', AGAIN_MS, () => handler.#lookAgain())
    return handler
  }

  /** Whether it serves nothing. */
  get isIdle(): boolean {
    return this.#layers.all.length === 0 && this.#unopened.size === 0
  }

  /** A partial layer without its mark shows holes as zeros. */
  #findPoisoned(): void {
    const marked = listMarkedInodes(this.#group)
    const partials = this.#options.metadata.layers.partials().map(({ diffId }) => diffId)
    const inodeOf = (diffId: DiffId) =>
      this.#layers.find(diffId)?.layer.inode ?? this.#unopened.find(diffId)?.inode ?? 0
    this.#poisoned = unmountAndReport(
      partials.filter((diffId) => !marked.has(inodeOf(diffId))),
      this.#options.unmountPoisoned,
    )
    for (const { layer } of this.#layers.all)
      if (!marked.has(layer.inode)) markReads(this.#group, layer.tarFd)
  }

  /** Its marks are there already. A layer that is not partial any more needs none. */
  #resume(diffId: DiffId, tarFd: number): void {
    try {
      const source = this.#partialSource(diffId)
      if (source !== undefined) {
        this.#open(source, tarFd)
        return
      }
      unmarkReads(this.#group, tarFd)
      closeSync(tarFd)
    } catch (error) {
      this.#unopened.add(diffId, tarFd)
      report(toLoamError(error, `serve layer ${diffId} again`).message)
    }
  }

  /** Tries once more to serve what could not be opened, and replaces a holder that was killed. */
  #lookAgain(): void {
    this.#forgetRemoved()
    if (this.#unopened.size === 0 && !this.#options.keeper.isLost) return
    const again = this.#turns.run(async () => {
      for (const { diffId, tarFd } of this.#unopened.all) {
        this.#unopened.delete(diffId)
        this.#resume(diffId, tarFd)
        const entry = this.#layers.find(diffId)
        if (entry !== undefined && entry.wrong === undefined) this.#fill(entry.layer)
      }
      await this.#keep()
    })
    again.then(this.#options.onIdle, (error: unknown) => {
      report(toLoamError(error, 'serve layers again').message)
    })
  }

  /** Returns the source of a layer that is partial. */
  #partialSource(diffId: DiffId): LazySource | undefined {
    const { layers } = this.#options.metadata
    return layers.find(diffId)?.data === 'partial' ? layers.partialSource(diffId) : undefined
  }

  #open(source: LazySource, tarFd?: number): ServedEntry {
    const { paths, limits, bootId, metadata } = this.#options
    const layer = openServedLayer(source, { paths, limits, bootId, tarFd })
    const denial = metadata.layers.denialOf(source.indexDigest)
    const wrong = denial === undefined ? undefined : wrongIndex(layer, denial)
    if (wrong !== undefined) dropAll(layer)
    const entry: ServedEntry = {
      layer,
      completions: new Set(),
      wrong,
      isDenied: denial !== undefined,
      verifying: undefined,
      isCheckedAgain: false,
    }
    this.#layers.add(entry)
    this.#answers.addLayer(layer)
    return entry
  }

  #fill(layer: ServedLayer): void {
    this.#filler.add(layer, this.#profiles.begin(layer))
  }

  /** Serves partial layers; returns when their reads wait. Layers that are complete need nothing. @throws LAYER_NOT_FOUND, LAZY_*, system errors */
  async serve(diffIds: readonly DiffId[]): Promise<void> {
    const asked: AskedLayers = { diffIds, done: Promise.withResolvers(), opened: [] }
    this.#asked.push(asked)
    if (this.#asked.length === 1) void this.#turns.run(async () => this.#serveAsked())
    await asked.done.promise
  }

  /** Serves what was asked for until its turn has come: the layers of an image come at once, and need one holder and not one each. */
  async #serveAsked(): Promise<void> {
    const begun = this.#asked.splice(0).filter((asked) => this.#beginAll(asked))
    try {
      // From here on no kill of this process lets a read pass.
      if (begun.some(({ opened }) => opened.length > 0)) await this.#keep()
    } catch (error) {
      for (const asked of begun) this.#leaveUnserved(asked, error)
      return
    }
    for (const { opened, done } of begun) {
      for (const layer of opened) if (this.#layers.find(layer.diffId)?.wrong === undefined) this.#fill(layer)
      done.resolve()
    }
  }

  #beginAll(asked: AskedLayers): boolean {
    try {
      for (const diffId of asked.diffIds) {
        const known = this.#layers.find(diffId)
        if (known !== undefined) this.#beginAgain(known)
        const layer = known === undefined ? this.#begin(diffId) : undefined
        if (layer !== undefined) asked.opened.push(layer)
      }
      return true
    } catch (error) {
      this.#leaveUnserved(asked, error)
      return false
    }
  }

  /** A request that failed has served nothing: the next one begins anew. */
  #leaveUnserved({ opened, done }: AskedLayers, error: unknown): void {
    for (const layer of opened) {
      unmarkReads(this.#group, layer.tarFd)
      this.#drop(layer)
    }
    done.reject(error)
  }

  /** Another container starts. */
  #beginAgain(entry: ServedEntry): void {
    this.#readmit(entry)
    const { layer } = entry
    this.#filler.expect(layer, this.#profiles.begin(layer))
  }

  /** The denial of its index was lifted: what is here is verified once more, and its reads wait again. */
  #readmit(entry: ServedEntry): void {
    const { layer, isDenied } = entry
    const isLifted = this.#options.metadata.layers.denialOf(layer.source.indexDigest) === undefined
    if (!isDenied || !isLifted) return
    claimAll(layer)
    Object.assign(entry, { wrong: undefined, isDenied: false, verifying: undefined, isCheckedAgain: false })
    this.#fill(layer)
  }

  #begin(diffId: DiffId): ServedLayer | undefined {
    const { metadata } = this.#options
    const source = this.#partialSource(diffId)
    if (source === undefined) {
      if (metadata.layers.find(diffId)?.data === 'complete') return undefined
      throw new LoamError('LAYER_NOT_FOUND', `serve layer ${diffId}: it is not in the store`)
    }
    const unopened = this.#unopened.find(diffId)
    if (unopened !== undefined) {
      // It is marked and kept already.
      const { layer, wrong } = this.#open(source, unopened.tarFd)
      this.#unopened.delete(diffId)
      if (wrong === undefined) this.#fill(layer)
      return undefined
    }
    this.#unmark(diffId)
    const { layer } = this.#open(source)
    try {
      markReads(this.#group, layer.tarFd)
      return layer
    } catch (error) {
      this.#drop(layer)
      throw cannotWait(error, `mark the tar of layer ${diffId}`)
    }
  }

  /**
   * A handler that was killed between the mark of a layer and its holder has left a mark, and no descriptor from before it. One that is opened now
   * would wait for this process at each write. Nothing shows the layer yet.
   */
  #unmark(diffId: DiffId): void {
    const fd = openRegular(artifactPath(this.#options.paths, diffId, 'tar'), 'LAYER_DAMAGED')
    try {
      unmarkReads(this.#group, fd)
    } finally {
      closeSync(fd)
    }
  }

  /**
   * Waits until a layer is complete. @throws LAYER_DAMAGED if its index has lied, LAYER_NOT_FOUND if it is removed, CANCELED, and the failure of its source
   * when its data does not come
   */
  async complete(diffId: DiffId, onProgress: Completion['onProgress'], signal: AbortSignal): Promise<void> {
    await this.serve([diffId])
    const entry = this.#layers.find(diffId)
    if (entry === undefined) return
    if (entry.wrong !== undefined) throw entry.wrong
    const completion = { done: Promise.withResolvers<void>(), onProgress }
    const leave = () => {
      completion.done.reject(new LoamError('CANCELED', `complete layer ${diffId}: canceled`))
    }
    signal.addEventListener('abort', leave)
    entry.completions.add(completion)
    this.#filler.raise(entry.layer, 1)
    try {
      await completion.done.promise
    } finally {
      signal.removeEventListener('abort', leave)
      entry.completions.delete(completion)
      this.#filler.raise(entry.layer, -1)
    }
  }

  /** Stops serving layers; their reads are refused. Afterwards nothing of theirs is open. */
  async forget(diffIds: readonly DiffId[]): Promise<void> {
    try {
      await this.#turns.run(async () => {
        const entries = diffIds.flatMap((diffId) => this.#layers.find(diffId) ?? [])
        for (const { layer, completions } of entries) {
          const removed = new LoamError('LAYER_NOT_FOUND', `complete layer ${layer.diffId}: it was removed`)
          for (const { done } of completions) done.reject(removed)
          await this.#retire(layer)
        }
        const unopened = diffIds.flatMap((diffId) => this.#unopened.find(diffId) ?? [])
        for (const { diffId, tarFd } of unopened) {
          unmarkReads(this.#group, tarFd)
          this.#unopened.delete(diffId)
          closeSync(tarFd)
        }
        if (entries.length + unopened.length > 0) await this.#keep()
      })
    } finally {
      this.#options.onIdle()
    }
  }

  /** A store may be removed as a whole, without this process. What still shows its layers must not read holes as zeros. */
  #forgetRemoved(): void {
    const gone = this.#layers.all.filter(({ layer }) => fstatSync(layer.tarFd).nlink === 0)
    if (gone.length === 0) return
    if (this.#layers.areShown()) {
      for (const entry of gone) {
        entry.wrong ??= new LoamError('LAYER_NOT_FOUND', `serve layer ${entry.layer.diffId}: it was removed`)
        void this.#filler.remove(entry.layer)
      }
      return
    }
    this.forget(gone.map(({ layer }) => layer.diffId)).catch((error: unknown) => {
      report(toLoamError(error, 'forget layers whose files are gone').message)
    })
  }

  /** Returns what it does. */
  status(): LazyStatus {
    const { waiting, counts, waits } = this.#answers
    const { bytesOnDemand, bytesAhead, refusedReads } = this.#filler
    return {
      pid: process.pid,
      layers: this.#layers.all.map(({ layer, wrong }) => ({
        diffId: layer.diffId,
        presentBytes: layer.presentBytes,
        totalBytes: layer.tarBytes,
        waiting: waiting.countOf(layer.diffId),
        failure: (wrong ?? this.#filler.failureOf(layer))?.message ?? null,
      })),
      poisoned: [...this.#poisoned],
      ...counts,
      waits: waits.all,
      failedReads: refusedReads,
      bytesOnDemand,
      bytesAhead,
      rssBytes: process.memoryUsage.rss(),
    }
  }

  /** Lets go of everything. It is idle. */
  end(): void {
    this.#options.keeper.end(this.#group)
  }

  async #keep(): Promise<void> {
    const layers = [...this.#layers.all.map(({ layer }) => layer), ...this.#unopened.all]
    const tars = new Map(layers.map(({ diffId, tarFd }) => [diffId, tarFd]))
    await this.#options.keeper.keep({ group: this.#group, tars })
  }

  #onRead(read: WaitingRead): void {
    for (const { layer: diffId, from, to } of read.isOrphan ? [] : read.needs) {
      const layer = this.#layers.find(diffId as DiffId)?.layer
      if (layer !== undefined) this.#profiles.read(layer, from, to)
    }
    this.#filler.read(read)
  }

  #onComplete(entry: ServedEntry): void {
    this.#turns
      .run(async () => this.#leaveComplete(entry))
      .catch((error: unknown) => {
        report(toLoamError(error, `end serving layer ${entry.layer.diffId}`).message)
      })
  }

  async #leaveComplete({ layer, completions }: ServedEntry): Promise<void> {
    if (this.#layers.find(layer.diffId)?.layer !== layer) return
    this.#layers.noteComplete(layer)
    await this.#retire(layer)
    unlinkIfThere(layer.mapPath)
    for (const { done } of completions) done.resolve()
    await this.#keep()
    this.#options.onIdle()
  }

  async #retire(layer: ServedLayer): Promise<void> {
    await this.#filler.remove(layer)
    await this.#layers.find(layer.diffId)?.verifying
    unmarkReads(this.#group, layer.tarFd)
    this.#drop(layer)
  }

  /** Nothing uses its descriptors any more. */
  #drop(layer: ServedLayer): void {
    this.#layers.drop(layer)
    this.#answers.removeLayer(layer.inode)
    closeServedLayer(layer)
  }
}
