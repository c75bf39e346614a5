import { LoamError } from '../errors/index.ts'
import type { DiffId } from '../image/index.ts'
import { FAIL_READ } from '../linux/index.ts'
import { recordSpan, SPAN_HERE } from '../layers/index.ts'
import type { ImageSource } from '../sources/index.ts'
import { FillHealth, FIRST_REFUSAL_MS } from './fill-health.ts'
import { fillRun, type FillRunOptions, type FillRunResult, fullDisk } from './fill-run.ts'
import type { FillThreads } from './fill-threads.ts'
import { NearHosts } from './near-hosts.ts'
import { type Run, Scheduler } from './scheduler.ts'
import { SharedMemory } from './shared-memory.ts'
import { lengthOf, type ServedLayer } from './served-layer.ts'
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
const LOOK_FOR_STALLS_MS = 500
/** Failures in a row after which who needs all of a layer looks for another way. */
const GIVE_UP_FAILURES = 6

export interface SpanFillerOptions {
  readonly waiting: WaitingReads
  readonly threads: Pick<FillThreads, 'run'>
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

/** A layer that is being filled. */
interface Filling {
  readonly layer: ServedLayer
  readonly health: FillHealth
  readonly stop: AbortController
  /** Whether its blob can only be fetched in order. */
  isInOrder: boolean
  /** Whether a run that fetches all in order is under way. */
  isStreaming: boolean
  /** Fires when a pause of the layer ends, or one of a span. */
  timer: NodeJS.Timeout | undefined
  /** What uses its descriptors. */
  readonly runs: Set<Promise<void>>
}

type HowToFill = Pick<FillRunOptions, 'from' | 'to' | 'isInOrder' | 'onFirst'> & {
  /** Whether a reader waits. */
  readonly isDemand: boolean
}

/** Fetches the spans of layers, in the order of the scheduler, and answers the reads that wait for them. Retries as long as somebody waits. */
export class SpanFiller {
  readonly #options: SpanFillerOptions
  readonly #scheduler = new Scheduler(SLOTS)
  readonly #memory = new SharedMemory()
  readonly #near = new NearHosts()
  readonly #layers = new Map<DiffId, Filling>()
  #aheadFromMs = 0
  #aheadTimer: NodeJS.Timeout | undefined
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
      health: new FillHealth(performance.now()),
      stop: new AbortController(),
      isInOrder: layer.access === 'sequential',
      isStreaming: false,
      timer: undefined,
      runs: new Set(),
    }
    this.#layers.set(layer.diffId, filling)
    this.#scheduler.addLayer(layer.diffId, layer.host, layer.present)
    this.#scheduler.expect(layer.diffId, expected)
    this.#goOn(filling)
    if (layer.missing === 0) this.#options.onFilled(layer)
  }

  /** Stops filling a layer; its reads are refused. Afterwards nothing uses its descriptors. */
  async remove({ diffId }: ServedLayer): Promise<void> {
    const filling = this.#layers.get(diffId)
    this.#layers.delete(diffId)
    this.#scheduler.removeLayer(diffId)
    filling?.stop.abort()
    clearTimeout(filling?.timer)
    this.refusedReads += this.#options.waiting.refuse(diffId)
    await Promise.allSettled([...(filling?.runs ?? [])])
  }

  /** Does a job in a thread, for the layer as a whole. */
  async run(job: SpanJob): Promise<SpanOutcome> {
    return this.#options.threads.run(job, false)
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
    return this.#layers.get(diffId)?.health.failureAt(performance.now())
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
        if (filling.layer.present[span] !== 1 && filling.health.isRefused(span, now)) return true
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
    const isDemand = reason === 'demand'
    this.#run(filling, { from, to, isDemand, isInOrder: false, onFirst }, () => {
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
    clearTimeout(this.#aheadTimer)
    // One more, since a timer may be early by the clock that the time was taken from.
    this.#aheadTimer = setTimeout(() => this.#pump(), ms + 1)
  }

  #run(filling: Filling, how: HowToFill, onEnd: () => void): void {
    const { runs } = filling
    const filled = this.#fill(filling, how).finally(() => {
      runs.delete(filled)
      onEnd()
    })
    runs.add(filled)
  }

  /** Fills adjacent spans: those that have not arrived are given back, or held back. */
  async #fill(filling: Filling, { isDemand, ...how }: HowToFill): Promise<void> {
    const { layer, health, stop } = filling
    const result = await fillRun(layer, {
      ...how,
      run: async (job) => this.#options.threads.run(job, isDemand || how.isInOrder),
      memory: this.#memory,
      withSource: async (act) => this.#options.withSource(layer, health.failures, act),
      onHere: (span) => this.#arrived(filling, span, isDemand),
      signal: stop.signal,
    })
    if (how.isInOrder) filling.isStreaming = false
    if (this.#isFilled(filling)) this.#endRun(filling, how, result)
  }

  /** Whether a layer is still the one that is filled. */
  #isFilled(filling: Filling): boolean {
    return this.#layers.get(filling.layer.diffId) === filling
  }

  #endRun(
    filling: Filling,
    { from, to }: { readonly from: number; readonly to: number },
    { wrong, hasArrived, failure, mustBeInOrder }: FillRunResult,
  ): void {
    if (mustBeInOrder) filling.isInOrder = true
    const wrongBytes = wrong.size > 0 ? this.#onWrong(filling, wrong) : undefined
    if (failure?.code === 'NO_SPACE') this.#onFull()
    else if (failure !== undefined) this.#fail(filling, failure)
    // A run that brought nothing else is a failure of its source.
    else if (wrongBytes !== undefined && !hasArrived) this.#fail(filling, wrongBytes)
    this.#giveBack(filling, from, to)
    this.#goOn(filling)
  }

  /** Fetches what may be fetched now, and goes on when a pause ends. */
  #goOn(filling: Filling): void {
    const { layer, health, isInOrder } = filling
    const now = performance.now()
    for (const span of health.takeReleased(now)) this.#giveBack(filling, span, span + 1)
    const isPaused = health.isPaused(now)
    this.#scheduler.pause(layer.diffId, isPaused || isInOrder)
    if (isInOrder && !isPaused) this.#fillInOrder(filling)
    const nextMs = health.nextMs(now)
    clearTimeout(filling.timer)
    // One more, since a timer may be early by the clock that the time was taken from.
    if (nextMs !== undefined) filling.timer = setTimeout(() => this.#goOn(filling), nextMs - now + 1)
    this.#pump()
  }

  /** Fills all that is missing by one request, for registries without ranges and blobs without checkpoints. */
  #fillInOrder(filling: Filling): void {
    const { layer } = filling
    if (filling.isStreaming || layer.missing === 0) return
    const [from] = this.#scheduler.takeAll(layer.diffId)
    // What is missing is held back for now, or others fetch it.
    if (from === undefined) return
    filling.isStreaming = true
    const all = { from, to: layer.spans.count, isInOrder: true, onFirst: undefined }
    this.#run(filling, { ...all, isDemand: false }, () => this.#pump())
  }

  #arrived(filling: Filling, span: number, isDemand: boolean): void {
    const { layer } = filling
    if (!this.#isFilled(filling) || Atomics.exchange(layer.present, span, 1) === 1) return
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
    filling.health.arrived(span, performance.now())
    this.#options.waiting.filled(layer.diffId, span)
    this.#options.onProgress(layer)
    if (layer.missing === 0) this.#options.onFilled(layer)
  }

  /** Spans that are wrong again and again are held back, and their reads refused. Returns what is wrong. */
  #onWrong(filling: Filling, wrong: ReadonlyMap<number, string>): LoamError {
    const { layer, health } = filling
    const now = performance.now()
    const refused = [...wrong.keys()].filter((span) => health.wasWrong(span, now))
    for (const span of refused) this.refusedReads += this.#options.waiting.refuse(layer.diffId, span)
    const [[first, why] = []] = wrong
    const more = wrong.size > 1 ? `, and ${wrong.size - 1} more` : ''
    const text = `fill layer ${layer.diffId}: span ${first} is wrong${more}: ${why}`
    const failure = new LoamError('DIGEST_MISMATCH', text)
    if (refused.length > 0) {
      this.#report(filling, failure)
      this.#options.onGivenUp(layer, failure)
    }
    return failure
  }

  /** Reads of what is not here fail at once for a while, of all layers; nothing is fetched. */
  #onFull(): void {
    for (const filling of this.#layers.values()) {
      const { layer } = filling
      const failure = fullDisk(layer)
      this.#fail(filling, failure)
      this.refusedReads += this.#options.waiting.refuse(layer.diffId)
      this.#options.onGivenUp(layer, failure)
      this.#goOn(filling)
    }
  }

  /** Fetches nothing of a layer for longer after each failure. */
  #fail(filling: Filling, failure: LoamError): void {
    const { layer, health } = filling
    const { stallTimeoutMs, onGivenUp } = this.#options
    const now = performance.now()
    if (!health.failed(failure, now)) return
    this.#report(filling, failure)
    const isStalled = stallTimeoutMs > 0 && health.isFailingFor(stallTimeoutMs, now)
    if (isStalled || health.failures >= GIVE_UP_FAILURES) onGivenUp(layer, failure)
  }

  #report({ health }: Filling, failure: LoamError): void {
    if (health.isNews(failure, performance.now())) report(failure.message)
  }

  /** Gives back the spans of a run that have not arrived, and are not held back. Those that reads wait for are wanted at once. */
  #giveBack({ layer, health }: Filling, from: number, to: number): void {
    const now = performance.now()
    for (let span = from; span < to; span += 1) {
      if (layer.present[span] === 1 || health.isHeldBack(span, now)) continue
      this.#scheduler.lose(layer.diffId, span)
      if (this.#options.waiting.isWaitedFor(layer.diffId, span)) this.#scheduler.want(layer.diffId, span)
    }
  }

  #refuseStalled(): void {
    const { waiting, stallTimeoutMs } = this.#options
    const now = performance.now()
    this.refusedReads += waiting.refuseIf(({ needs }, sinceMs) => {
      const layers = needs.flatMap(({ layer }) => this.#find(layer) ?? [])
      const lastMs = Math.max(sinceMs, ...layers.map(({ health }) => health.lastMs))
      if (now - lastMs < stallTimeoutMs) return false
      for (const { health } of layers) health.refuse(now + FIRST_REFUSAL_MS)
      return true
    })
  }
}
