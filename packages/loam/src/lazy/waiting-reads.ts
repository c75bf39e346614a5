import { ALLOW_READ, FAIL_READ, type ReadAnswer } from '../linux/index.ts'

/** Spans of a layer: the first, and the one after the last. */
export interface NeededSpans {
  readonly layer: string
  readonly from: number
  readonly to: number
}

/** A read that waits for spans. */
export interface WaitingRead {
  readonly slot: number
  /** Number of the descriptor, by which it is answered. */
  readonly fd: number
  /** The process that reads; 0: not known. */
  readonly pid: number
  /** When it was taken from the kernel, by `performance.now()`. */
  readonly atMs: number
  /** Whether an earlier process has taken it from the kernel: then its descriptor is not open here. */
  readonly isOrphan: boolean
  /** What it needs; of several layers if the earlier process did not know which file it is of. */
  readonly needs: readonly NeededSpans[]
}

interface Waiting {
  readonly read: WaitingRead
  readonly sinceMs: number
  left: number
}

/**
 * Reads that wait, by the spans that they wait for. The kernel gives an answer to the oldest read of a number: reads with the number of an orphan
 * are answered in their order.
 */
export class WaitingReads {
  readonly #give: (read: WaitingRead, answer: ReadAnswer) => void
  readonly #bySpan = new Map<string, Map<number, Set<Waiting>>>()
  /** Numbers of orphans: reads in their order, of which the first alone may be answered. */
  readonly #queues = new Map<number, { readonly read: WaitingRead; readonly begin: () => void }[]>()
  readonly #all = new Set<Waiting>()

  /** `give` gives an answer to the kernel. */
  constructor(give: (read: WaitingRead, answer: ReadAnswer) => void) {
    this.#give = give
  }

  /** Number of reads that wait. */
  get count(): number {
    return this.#all.size + [...this.#queues.values()].reduce((sum, queue) => sum + queue.length - 1, 0)
  }

  /** Whether a read with this number waits that an earlier process has taken. */
  isHeld(fd: number): boolean {
    return this.#queues.has(fd)
  }

  /** Calls `begin` when a read may be answered: at once, unless older ones of its number wait. */
  queue(read: WaitingRead, begin: () => void): void {
    const queue = this.#queues.get(read.fd)
    if (queue !== undefined) {
      queue.push({ read, begin })
      return
    }
    if (read.isOrphan) this.#queues.set(read.fd, [{ read, begin }])
    begin()
  }

  /** Lets a read wait for the spans that `isMissing`; answers it if there are none. Returns the spans that it waits for. */
  wait(read: WaitingRead, isMissing: (layer: string, span: number) => boolean, nowMs: number): NeededSpans[] {
    const waiting: Waiting = { read, sinceMs: nowMs, left: 0 }
    const missed: NeededSpans[] = []
    for (const { layer, from, to } of read.needs) {
      for (let span = from; span < to; span += 1) {
        if (!isMissing(layer, span)) continue
        waiting.left += 1
        this.#waitersOf(layer, span).add(waiting)
        missed.push({ layer, from: span, to: span + 1 })
      }
    }
    if (waiting.left === 0) this.answer(read, ALLOW_READ)
    else this.#all.add(waiting)
    return missed
  }

  #waitersOf(layer: string, span: number): Set<Waiting> {
    const spans = this.#bySpan.get(layer) ?? new Map<number, Set<Waiting>>()
    this.#bySpan.set(layer, spans)
    const waiters = spans.get(span) ?? new Set()
    spans.set(span, waiters)
    return waiters
  }

  /** Answers a read, and begins the next one of its number. */
  answer(read: WaitingRead, answer: ReadAnswer): void {
    const queue = this.#queues.get(read.fd)
    queue?.shift()
    if (queue?.length === 0) this.#queues.delete(read.fd)
    this.#give(read, answer)
    queue?.[0]?.begin()
  }

  /** Allows the reads that have waited for this span last. */
  filled(layer: string, span: number): void {
    const waiters = this.#bySpan.get(layer)?.get(span)
    if (waiters === undefined) return
    this.#bySpan.get(layer)?.delete(span)
    for (const waiting of waiters) {
      waiting.left -= 1
      if (waiting.left > 0) continue
      this.#all.delete(waiting)
      this.answer(waiting.read, ALLOW_READ)
    }
  }

  /** Refuses the reads that wait for a span; for any of a layer without one. Returns their number. */
  refuse(layer: string, span?: number): number {
    const spans = this.#bySpan.get(layer)
    const found = span === undefined ? [...(spans?.values() ?? [])] : [spans?.get(span) ?? []]
    const waiters = new Set(found.flatMap((each) => [...each]))
    for (const waiting of waiters) this.#refuse(waiting)
    return waiters.size
  }

  /** Refuses the reads of which `isOver`. Returns their number. */
  refuseIf(isOver: (read: WaitingRead, sinceMs: number) => boolean): number {
    const over = [...this.#all].filter(({ read, sinceMs }) => isOver(read, sinceMs))
    for (const waiting of over) this.#refuse(waiting)
    return over.length
  }

  #refuse(waiting: Waiting): void {
    if (!this.#all.delete(waiting)) return
    for (const { layer, from, to } of waiting.read.needs) {
      const spans = this.#bySpan.get(layer)
      for (let span = from; span < to; span += 1) {
        const waiters = spans?.get(span)
        waiters?.delete(waiting)
        if (waiters?.size === 0) spans?.delete(span)
      }
    }
    this.answer(waiting.read, FAIL_READ)
  }

  /** Whether a read waits for a span. */
  isWaitedFor(layer: string, span: number): boolean {
    return this.#bySpan.get(layer)?.has(span) === true
  }

  /** The number of reads that wait for a layer. */
  countOf(layer: string): number {
    return new Set([...(this.#bySpan.get(layer)?.values() ?? [])].flatMap((waiters) => [...waiters])).size
  }
}
