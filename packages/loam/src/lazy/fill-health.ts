import type { LoamError } from '../errors/index.ts'

/** How often a span is fetched before its reads fail. */
const MAX_TRIES = 3
const FIRST_PAUSE_MS = 100
const MAX_PAUSE_MS = 5_000
/** The longest pause that a registry may ask for. */
const MAX_ASKED_MS = 3_600_000
/** How long reads fail at once after some have failed: the kernel asks for a page again when a read of it has failed. */
export const FIRST_REFUSAL_MS = 1_000
const MAX_REFUSAL_MS = 60_000
/** Between two reports of failures of one kind, if something has arrived meanwhile; without that there is one. */
const REPORT_MS = 60_000

interface WrongSpan {
  readonly tries: number
  /** Its reads fail until then; 0: they wait. */
  readonly untilMs: number
}

/**
 * What has gone wrong with filling a layer: until when nothing of it is fetched, and until when reads of what is missing fail. Pure: all times are
 * milliseconds of one monotonic clock.
 */
export class FillHealth {
  readonly #wrong = new Map<number, WrongSpan>()
  /** The last report of each code of a failure, and how many spans had arrived by then. */
  readonly #reports = new Map<string, { readonly ms: number; readonly arrivals: number }>()
  #arrivals = 0
  #failures = 0
  #failingSinceMs = 0
  #pausedUntilMs = 0
  #refusedUntilMs = 0
  #lastMs: number
  #failure: LoamError | undefined
  /** The full disk, which pauses a layer beside anything else. */
  #full: { readonly failure: LoamError; readonly count: number; readonly untilMs: number } | undefined

  constructor(nowMs: number) {
    this.#lastMs = nowMs
  }

  /** When the last span arrived, or the layer was added. */
  get lastMs(): number {
    return this.#lastMs
  }

  /** Failures since the last span that arrived. */
  get failures(): number {
    return this.#failures
  }

  /** Returns why nothing arrives; undefined while spans do. */
  failureAt(nowMs: number): LoamError | undefined {
    return this.#isFull(nowMs) ? this.#full?.failure : this.#failure
  }

  /** Returns whether nothing is fetched for now. */
  isPaused(nowMs: number): boolean {
    return nowMs < this.#pausedUntilMs
  }

  /** Returns whether reads of a span that is missing fail. */
  isRefused(span: number, nowMs: number): boolean {
    return this.#isFull(nowMs) || nowMs < this.#refusedUntilMs || this.isHeldBack(span, nowMs)
  }

  #isFull(nowMs: number): boolean {
    return nowMs < (this.#full?.untilMs ?? 0)
  }

  /** Returns whether a span was wrong so often that it is not fetched for now. */
  isHeldBack(span: number, nowMs: number): boolean {
    return nowMs < (this.#wrong.get(span)?.untilMs ?? 0)
  }

  /** Returns whether there was nothing but failures for so long. */
  isFailingFor(ms: number, nowMs: number): boolean {
    return this.#failures > 0 && nowMs - this.#failingSinceMs >= ms
  }

  /** A span has arrived: data comes again. */
  arrived(span: number, nowMs: number): void {
    this.#wrong.delete(span)
    this.#arrivals += 1
    this.#failures = 0
    this.#failure = undefined
    this.#full = undefined
    this.#refusedUntilMs = 0
    this.#lastMs = nowMs
  }

  /**
   * A run has failed: nothing is fetched for longer after each failure in a row, or for as long as the registry asks. On a full disk reads fail
   * meanwhile. Returns false for a run that ends while the layer is paused already: such runs began together.
   */
  failed(failure: LoamError, nowMs: number): boolean {
    const isPaused = this.isPaused(nowMs)
    if (failure.code !== 'NO_SPACE') {
      if (isPaused) return false
      this.#count(failure, nowMs)
      const ownMs = pauseOf(FIRST_PAUSE_MS, this.#failures)
      const askedMs = failure.details['retryAfterMs']
      const longestMs = typeof askedMs === 'number' ? Math.min(askedMs, MAX_ASKED_MS) : 0
      this.#pausedUntilMs = nowMs + Math.max(longestMs, ownMs)
      return true
    }
    if (this.#isFull(nowMs)) return false
    if (!isPaused) this.#count(failure, nowMs)
    const count = (this.#full?.count ?? 0) + 1
    const untilMs = nowMs + pauseOf(FIRST_REFUSAL_MS, count)
    this.#full = { failure, count, untilMs }
    this.#pausedUntilMs = Math.max(this.#pausedUntilMs, untilMs)
    return true
  }

  #count(failure: LoamError, nowMs: number): void {
    this.#failures += 1
    this.#failure = failure
    if (this.#failures === 1) this.#failingSinceMs = nowMs
  }

  /** Lets reads of all that is missing fail for a while. */
  refuse(untilMs: number): void {
    this.#refusedUntilMs = Math.max(this.#refusedUntilMs, untilMs)
  }

  /** A run has brought wrong bytes for a span. Returns whether its reads fail from now on, for longer after each further try. */
  wasWrong(span: number, nowMs: number): boolean {
    const tries = (this.#wrong.get(span)?.tries ?? 0) + 1
    const isRefused = tries >= MAX_TRIES
    const refusalMs = Math.min(FIRST_REFUSAL_MS * 2 ** (tries - MAX_TRIES), MAX_REFUSAL_MS)
    this.#wrong.set(span, { tries, untilMs: isRefused ? nowMs + refusalMs : 0 })
    return isRefused
  }

  /** Returns the spans that were held back and may be fetched again, once. */
  takeReleased(nowMs: number): number[] {
    const released: number[] = []
    for (const [span, { tries, untilMs }] of this.#wrong) {
      if (untilMs === 0 || untilMs > nowMs) continue
      this.#wrong.set(span, { tries, untilMs: 0 })
      released.push(span)
    }
    return released
  }

  /** Returns when a pause ends or a span is released next; undefined if nothing is held back. */
  nextMs(nowMs: number): number | undefined {
    let next = this.isPaused(nowMs) ? this.#pausedUntilMs : Number.POSITIVE_INFINITY
    for (const { untilMs } of this.#wrong.values()) if (untilMs > 0) next = Math.min(next, untilMs)
    return Number.isFinite(next) ? next : undefined
  }

  /** Returns whether a failure is to be reported: the first of its kind, and one a minute if spans arrive between them. */
  isNews({ code }: LoamError, nowMs: number): boolean {
    const last = this.#reports.get(code)
    if (last !== undefined && (last.arrivals === this.#arrivals || nowMs - last.ms < REPORT_MS)) return false
    this.#reports.set(code, { ms: nowMs, arrivals: this.#arrivals })
    return true
  }
}

/** Returns the pause after a failure, in ms: twice as long after each further one. */
function pauseOf(firstMs: number, failures: number): number {
  return Math.min(firstMs * 2 ** (failures - 1), MAX_PAUSE_MS)
}
