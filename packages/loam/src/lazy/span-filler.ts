import { isLoamError, LoamError, toLoamError } from '../errors/index.ts'
import type { DiffId } from '../image/index.ts'
import { FAIL_READ } from '../linux/index.ts'
import { recordSpan, SPAN_HERE } from '../layers/index.ts'
import type { ImageSource } from '../sources/index.ts'
import { type FetchOptions, fetchSpans, placeOf } from './fetch-spans.ts'
import { FillThreads } from './fill-threads.ts'
import { NearHosts } from './near-hosts.ts'
import { type Run, Scheduler } from './scheduler.ts'
import { SharedMemory } from './shared-memory.ts'
import { lengthOf, missingParts, type ServedLayer } from './served-layer.ts'
import type { SpanJob, SpanOutcome } from './span-jobs.ts'
import type { WaitingRead, WaitingReads } from './waiting-reads.ts'
import { runPeriodically } from './periodic.ts'
import { report } from './report.ts'

/** Requests at once to one host. */
const SLOTS = { demand: 4, ahead: 2 }
/** How long nothing is fetched ahead while what a reader has jumped to is fetched, at most: the line should be free for it. */
const DURING_JUMP_MS = 200
/** And how long afterwards: the reader is likely to jump again. */
const AFTER_JUMP_MS = 30
const MAX_TRIES = 3
const FIRST_BACKOFF_MS = 100
const MAX_BACKOFF_MS = 5_000
/** How long reads fail at once after a disk was full, or after a span was wrong again and again. */
const FIRST_REFUSAL_MS = 1_000
const MAX_REFUSAL_MS = 60_000
const LOOK_FOR_STALLS_MS = 500
/** Failures in a row after which who needs all of a layer looks for another way. */
const GIVE_UP_FAILURES = 6

export interface SpanFillerOptions {
  readonly waiting: WaitingReads
  /** Uses the source of a layer's blob: a name of its image, or another one after `tries` failures. */
  readonly withSource: <T>(
    layer: ServedLayer,
    tries: number,
    act: (source: ImageSource) => Promise<T>,
  ) => Promise<T>
  /** How long a reader waits while nothing arrives; 0: for ever. */
  readonly stallTimeoutMs: number
  /** Called when all spans of a layer are here. */
  readonly onFilled: (layer: ServedLayer) => void
  readonly onProgress: (layer: ServedLayer) => void
  /** Called each time that a layer has failed for so long that who needs all of it should not wait any more. It is filled on. */
  readonly onGivenUp: (layer: ServedLayer, failure: LoamError) => void
}

/** A layer that is being filled, and what has gone wrong. */
interface Filling {
  readonly layer: ServedLayer
  readonly stop: AbortController
  /** How often a span was wrong since it was right. */
  readonly wrong: Map<number, number>
  /** Spans whose reads fail until then. */
  readonly refusedUntilMs: Map<number, number>
  /** Until when all reads of what is not here fail, since some have waited for too long: the kernel asks for a page again when a read of it has failed. */
  stalledUntilMs: number
  /** Whether its blob can only be fetched in order. */
  isInOrder: boolean
  isStreaming: boolean
  /** Failures since the last span that arrived. */
  failures: number
  /** When the first of them was. */
  failingSinceMs: number
  failure: LoamError | undefined
  isWaiting: boolean
  /** When the last span arrived. */
  lastMs: number
  /** What uses its descriptors. */
  readonly runs: Set<Promise<void>>
}

/** Fetches the spans of layers, in the order of the scheduler, and answers the reads that wait for them. Retries as long as somebody waits. */
export class SpanFiller {
  readonly #options: SpanFillerOptions
  readonly #scheduler = new Scheduler(SLOTS)
  readonly #threads = new FillThreads()
  readonly #memory = new SharedMemory()
  readonly #near = new NearHosts()
  readonly #layers = new Map<DiffId, Filling>()
  #fullUntilMs = 0
  #aheadFromMs = 0
  #goOn: NodeJS.Timeout | undefined
  bytesOnDemand = 0
  bytesAhead = 0
  refusedReads = 0

  constructor(options: SpanFillerOptions) {
    this.#options = options
    if (options.stallTimeoutMs > 0)
      runPeriodically('refuse stalled reads', LOOK_FOR_STALLS_MS, () => this.#refuseStalled())
  }

  /** Begins to fill a layer, with the spans that are likely to be read. */
  add(layer: ServedLayer, expected: readonly number[]): void {
    const filling: Filling = {
      layer,
      stop: new AbortController(),
      wrong: new Map(),
      refusedUntilMs: new Map(),
      stalledUntilMs: 0,
      isInOrder: layer.access === 'sequential',
      isStreaming: false,
      failures: 0,
      failingSinceMs: 0,
      failure: undefined,
      isWaiting: false,
      lastMs: performance.now(),
      runs: new Set(),
    }
    this.#layers.set(layer.diffId, filling)
    this.#scheduler.addLayer(layer.diffId, layer.host, layer.present)
    this.#scheduler.expect(layer.diffId, expected)
    if (filling.isInOrder) this.#fillInOrder(filling)
    else this.#pump()
    if (layer.missing === 0) this.#options.onFilled(layer)
  }

  /** Stops filling a layer; its reads are refused. Afterwards nothing uses its descriptors. */
  async remove({ diffId }: ServedLayer): Promise<void> {
    const filling = this.#layers.get(diffId)
    this.#layers.delete(diffId)
    this.#scheduler.removeLayer(diffId)
    filling?.stop.abort()
    this.refusedReads += this.#options.waiting.refuse(diffId)
    await Promise.allSettled([...(filling?.runs ?? [])])
  }

  /** Does a job in a thread, for the layer as a whole. */
  async run(job: SpanJob): Promise<SpanOutcome> {
    return this.#threads.run(job, false)
  }

  /** Spans are likely to be read, in this order. */
  expect({ diffId }: ServedLayer, spans: readonly number[]): void {
    this.#scheduler.expect(diffId, spans)
    this.#pump()
  }

  /** Fills a layer before others, or not any more. */
  raise({ diffId }: ServedLayer, by: 1 | -1): void {
    this.#scheduler.raise(diffId, by)
    this.#pump()
  }

  /** Returns why a layer's data does not arrive; undefined while it does. */
  failureOf({ diffId }: ServedLayer): LoamError | undefined {
    return this.#layers.get(diffId)?.failure
  }

  /** Lets a read wait for its spans, or answers it. */
  read(read: WaitingRead): void {
    const { waiting } = this.#options
    const now = performance.now()
    if (this.#isRefused(read, now)) {
      this.refusedReads += 1
      waiting.answer(read, FAIL_READ)
      return
    }
    const isMissing = (diffId: string, span: number) => this.#find(diffId)?.layer.present[span] === 0
    for (const { layer, from } of waiting.wait(read, isMissing, now)) this.#scheduler.want(layer, from)
    this.#pump()
  }

  #find(diffId: string): Filling | undefined {
    return this.#layers.get(diffId as DiffId)
  }

  /** What cannot be had now is not fetched before each refusal. */
  #isRefused({ needs }: WaitingRead, now: number): boolean {
    return needs.some(({ layer, from, to }) => {
      const filling = this.#find(layer)
      if (filling === undefined) return true
      for (let span = from; span < to; span += 1) {
        if (filling.layer.present[span] === 1) continue
        const refusedMs = filling.refusedUntilMs.get(span) ?? 0
        if (now < Math.max(this.#fullUntilMs, filling.stalledUntilMs, refusedMs)) return true
      }
      return false
    })
  }

  #pump(): void {
    for (let run = this.#next(); run !== undefined; run = this.#next()) this.#begin(run)
  }

  #begin(run: Run): void {
    const { layer, from, to, reason, isJump } = run
    const filling = this.#find(layer)
    if (filling === undefined) {
      this.#scheduler.end(run)
      return
    }
    const { host } = filling.layer
    const mustHoldBack = isJump && !this.#near.has(host)
    if (mustHoldBack) this.#holdBack(DURING_JUMP_MS)
    const start = performance.now()
    const onFirst = isJump ? () => this.#near.note(host, performance.now() - start) : undefined
    const filled = this.#fill(filling, { from, to, isDemand: reason === 'demand', onFirst })
    this.#track(filling, filled, () => {
      this.#scheduler.end(run)
      if (mustHoldBack) this.#holdBack(this.#near.has(host) ? 0 : AFTER_JUMP_MS)
      this.#pump()
    })
  }

  #next(): Run | undefined {
    return this.#scheduler.next(performance.now() >= this.#aheadFromMs)
  }

  /** Fetches nothing ahead for a while. */
  #holdBack(ms: number): void {
    this.#aheadFromMs = performance.now() + ms
    clearTimeout(this.#goOn)
    // One more, since a timer may be early by the clock that the time was taken from.
    this.#goOn = setTimeout(() => this.#pump(), ms + 1)
  }

  #track({ runs }: Filling, run: Promise<void>, onEnd: () => void): void {
    runs.add(run)
    void run.finally(() => {
      runs.delete(run)
      onEnd()
    })
  }

  /** Fills adjacent spans. Never throws: what has not arrived is given back. */
  async #fill(
    filling: Filling,
    {
      from,
      to,
      isDemand,
      onFirst,
    }: { from: number; to: number; isDemand: boolean; onFirst: FetchOptions['onFirst'] },
  ): Promise<void> {
    const { layer } = filling
    const onSpan = (span: number, outcome: SpanOutcome) => {
      this.#onSpan(filling, span, outcome, isDemand)
    }
    const run = async (job: SpanJob) => this.#threads.run(job, isDemand)
    try {
      await this.#checkClaims(layer, from, to, { run, onSpan })
      for (const part of missingParts(layer, from, to)) {
        const inOrder = new AbortController()
        const signal = AbortSignal.any([filling.stop.signal, inOrder.signal])
        const onWhole = () => {
          filling.isInOrder = true
          inOrder.abort()
        }
        await this.#options.withSource(layer, filling.failures, async (source) =>
          fetchSpans(source, layer, { ...part, run, memory: this.#memory, onSpan, onFirst, signal, onWhole }),
        )
      }
    } catch (error) {
      if (!filling.isInOrder) this.#backOff(filling, error)
    } finally {
      this.#giveBack(filling, from, to)
      if (filling.isInOrder) this.#fillInOrder(filling)
    }
  }

  /** What an earlier boot has claimed is here if it has its sum. */
  async #checkClaims(
    layer: ServedLayer,
    from: number,
    to: number,
    {
      run,
      onSpan,
    }: { run: (job: SpanJob) => Promise<SpanOutcome>; onSpan: (span: number, outcome: SpanOutcome) => void },
  ): Promise<void> {
    const claimed = Array.from({ length: to - from }, (_, index) => from + index).filter((span) =>
      layer.claimed.has(span),
    )
    await Promise.all(
      claimed.map(async (span) => {
        const outcome = await run({ kind: 'check', ...placeOf(layer, span) })
        layer.claimed.delete(span)
        if (outcome.kind === 'here') onSpan(span, outcome)
      }),
    )
  }

  /** Fills all that is missing by one request, for registries without ranges and blobs without checkpoints. */
  #fillInOrder(filling: Filling): void {
    const { layer } = filling
    this.#scheduler.pause(layer.diffId, true)
    if (filling.isStreaming || filling.isWaiting || layer.missing === 0 || filling.stop.signal.aborted) return
    const [from] = this.#scheduler.takeAll(layer.diffId)
    // What is missing is refused for now, or others fetch it.
    if (from === undefined) return
    filling.isStreaming = true
    const to = layer.spans.count
    const onSpan = (span: number, outcome: SpanOutcome) => {
      this.#onSpan(filling, span, outcome, false)
    }
    const run = async (job: SpanJob) => this.#threads.run(job, true)
    const use = async (source: ImageSource) =>
      fetchSpans(source, layer, {
        ...{ from, to, run, onSpan },
        memory: this.#memory,
        signal: filling.stop.signal,
      })
    const fetch = async () =>
      layer.missing === 0 ? undefined : this.#options.withSource(layer, filling.failures, use)
    const filled = this.#checkClaims(layer, from, to, { run, onSpan })
      .then(fetch)
      .catch((error: unknown) => {
        this.#backOff(filling, error)
      })
    this.#track(filling, filled, () => {
      filling.isStreaming = false
      this.#giveBack(filling, from, to)
      this.#fillInOrder(filling)
    })
  }

  #onSpan(filling: Filling, span: number, outcome: SpanOutcome, isDemand: boolean): void {
    const { layer } = filling
    if (this.#layers.get(layer.diffId) !== filling) return
    switch (outcome.kind) {
      case 'here':
        this.#arrived(filling, span, isDemand)
        break
      case 'wrong':
        this.#wasWrong(filling, span, outcome.why)
        break
      case 'full':
        this.#onFull(filling)
        break
      case 'failed':
        this.#backOff(filling, new Error(outcome.why))
        break
      case 'verified':
        break
    }
  }

  #arrived(filling: Filling, span: number, isDemand: boolean): void {
    const { layer } = filling
    if (Atomics.exchange(layer.present, span, 1) === 1) return
    const bytes = lengthOf(layer.spans, span)
    if (isDemand) this.bytesOnDemand += bytes
    else this.bytesAhead += bytes
    try {
      recordSpan(layer.mapFd, span, SPAN_HERE)
    } catch (error) {
      // It is fetched once more after a restart.
      report(`record span ${span} of ${layer.diffId}: ${String(error)}`)
    }
    layer.missing -= 1
    layer.presentBytes += bytes
    filling.wrong.delete(span)
    filling.refusedUntilMs.delete(span)
    filling.failures = 0
    filling.failure = undefined
    filling.stalledUntilMs = 0
    filling.lastMs = performance.now()
    this.#options.waiting.filled(layer.diffId, span)
    this.#options.onProgress(layer)
    if (layer.missing === 0) this.#options.onFilled(layer)
  }

  /** It is fetched twice more; then its reads fail, for longer after each further try. */
  #wasWrong(filling: Filling, span: number, why: string): void {
    const { layer } = filling
    const tries = (filling.wrong.get(span) ?? 0) + 1
    filling.wrong.set(span, tries)
    if (tries < MAX_TRIES) return
    const refusalMs = Math.min(FIRST_REFUSAL_MS * 2 ** (tries - MAX_TRIES), MAX_REFUSAL_MS)
    filling.refusedUntilMs.set(span, performance.now() + refusalMs)
    const text = `fill layer ${layer.diffId}: span ${span} is wrong, ${tries} times: ${why}`
    report(text)
    this.#options.onGivenUp(layer, new LoamError('DIGEST_MISMATCH', text))
    this.refusedReads += this.#options.waiting.refuse(layer.diffId, span)
    setTimeout(() => {
      if (this.#layers.get(layer.diffId) !== filling) return
      // The timer may be early by the clock that the time was taken from.
      filling.refusedUntilMs.delete(span)
      this.#giveBack(filling, span, span + 1)
      if (filling.isInOrder) this.#fillInOrder(filling)
      this.#pump()
    }, refusalMs)
  }

  /** Reads of what is not here fail at once for a while, of all layers; nothing is fetched. */
  #onFull(found: Filling): void {
    const now = performance.now()
    // Other spans have found the same; a layer that waited for something else is not paused yet.
    if (now < this.#fullUntilMs) {
      this.#pauseFor(found, this.#fullUntilMs - now)
      return
    }
    const pauseMs = Math.min(FIRST_REFUSAL_MS * 2 ** found.failures, MAX_BACKOFF_MS)
    this.#fullUntilMs = now + pauseMs
    for (const filling of this.#layers.values()) {
      const failure = new LoamError('NO_SPACE', `fill layer ${filling.layer.diffId}: the disk is full`)
      this.refusedReads += this.#options.waiting.refuse(filling.layer.diffId)
      this.#backOff(filling, failure, pauseMs)
      this.#options.onGivenUp(filling.layer, failure)
    }
  }

  /** Fetches nothing for longer after each failure, and for `leastMs` at least. */
  #backOff(filling: Filling, error: unknown, leastMs = 0): void {
    if (filling.stop.signal.aborted || filling.isWaiting) return
    const failure = toLoamError(error, `fill layer ${filling.layer.diffId}`)
    filling.failures += 1
    filling.failure = failure
    const now = performance.now()
    if (filling.failures === 1) {
      report(failure.message)
      filling.failingSinceMs = now
    }
    const { stallTimeoutMs, onGivenUp } = this.#options
    const isStalled = stallTimeoutMs > 0 && now - filling.failingSinceMs >= stallTimeoutMs
    if (isStalled || filling.failures >= GIVE_UP_FAILURES) onGivenUp(filling.layer, failure)
    const asked = isLoamError(failure) ? failure.details['retryAfterMs'] : undefined
    const own = Math.max(leastMs, Math.min(FIRST_BACKOFF_MS * 2 ** (filling.failures - 1), MAX_BACKOFF_MS))
    this.#pauseFor(filling, typeof asked === 'number' ? Math.max(asked, own) : own)
  }

  #pauseFor(filling: Filling, ms: number): void {
    if (filling.isWaiting) return
    const { diffId } = filling.layer
    filling.isWaiting = true
    this.#scheduler.pause(diffId, true)
    setTimeout(() => {
      filling.isWaiting = false
      if (this.#layers.get(diffId) !== filling) return
      if (filling.isInOrder) this.#fillInOrder(filling)
      else this.#scheduler.pause(diffId, false)
      this.#pump()
    }, ms)
  }

  /** Gives back the spans of a run that have not arrived, and are not refused. Those that reads wait for are wanted at once. */
  #giveBack({ layer, refusedUntilMs }: Filling, from: number, to: number): void {
    const now = performance.now()
    for (let span = from; span < to; span += 1) {
      if (layer.present[span] === 1 || now < (refusedUntilMs.get(span) ?? 0)) continue
      this.#scheduler.lose(layer.diffId, span)
      if (this.#options.waiting.isWaitedFor(layer.diffId, span)) this.#scheduler.want(layer.diffId, span)
    }
  }

  #refuseStalled(): void {
    const { waiting, stallTimeoutMs } = this.#options
    const now = performance.now()
    this.refusedReads += waiting.refuseIf(({ needs }, sinceMs) => {
      const layers = needs.flatMap(({ layer }) => this.#find(layer) ?? [])
      const lastMs = Math.max(sinceMs, ...layers.map((filling) => filling.lastMs))
      if (now - lastMs < stallTimeoutMs) return false
      for (const filling of layers) filling.stalledUntilMs = now + FIRST_REFUSAL_MS
      return true
    })
  }
}
