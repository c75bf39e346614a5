import { closeSync } from 'node:fs'
import { extname } from 'node:path'
import { MessageChannel } from 'node:worker_threads'
import { answerRead, FAIL_READ, isAlive, type ReadAnswer, startThread } from '../linux/index.ts'
import { Journal, JOURNAL_SLOTS, type JournalEntry } from './journal.ts'
import {
  COUNTER,
  createSharedReads,
  type EventThreadData,
  type LayerMessage,
  MAX_DESCRIPTORS,
  type MissedRead,
  type SharedLayer,
} from './shared-reads.ts'
import { type NeededSpans, type WaitingRead, WaitingReads } from './waiting-reads.ts'
import { WaitTimes } from './wait-times.ts'
import { runPeriodically } from './periodic.ts'
import { report } from './report.ts'

/** The same in a checkout, where each module is a file, and in the package, where the thread is beside the bundle. */
const THREAD_FILE = extname(import.meta.url) === '.ts' ? './event-thread.ts' : './event-thread.js'

/** Left for layers, connections and the database. */
const OTHER_DESCRIPTORS = 512
const MIN_SLOTS = 64
/** How long a read waits at least until its process is looked for, and how often. */
const LOOK_FOR_DEAD_MS = 1000

/** What a read needs; an answer if that is known at once. */
export type ReadNeeds = readonly NeededSpans[] | ReadAnswer

export interface ReadAnswersOptions {
  readonly group: number
  readonly journal: string
  /** Descriptors that this process may have; each read that waits has one. */
  readonly descriptorLimit: number
  /** Returns what a read of a file needs; of inode 0: of any file that is served. */
  readonly needsOf: (inode: number, offset: number, count: number) => ReadNeeds
  /** Called with a read that may wait for its spans now. */
  readonly onRead: (read: WaitingRead) => void
}

/** Gives the answers of a group: those of the event thread, of its own, and of processes that have ended. */
export class ReadAnswers {
  readonly waiting: WaitingReads
  readonly #options: ReadAnswersOptions
  readonly #journal: Journal
  readonly #shared = createSharedReads()
  readonly #layers = new MessageChannel()
  /** How long reads have waited. */
  readonly waits = new WaitTimes()
  #lastTurn = 0

  constructor(options: ReadAnswersOptions) {
    this.#options = options
    this.#journal = new Journal(options.journal)
    this.waiting = new WaitingReads((read, answer) => {
      this.#give(read, answer)
    })
    this.#layers.port1.unref()
    runPeriodically('find dead readers', LOOK_FOR_DEAD_MS, () => this.#releaseDead())
  }

  /** Number of events so far, of those that had to wait, and of those that the kernel has refused for want of a descriptor. */
  get counts(): { readonly events: number; readonly misses: number; readonly refused: number } {
    const [events, misses, refused] = (['events', 'misses', 'refused'] as const).map((name) =>
      Atomics.load(this.#shared.counters, COUNTER[name]),
    ) as [number, number, number]
    return { events, misses, refused }
  }

  /** A process that was killed waits no more, but its read keeps its slot and its descriptor until it is answered. */
  #releaseDead(): void {
    const before = performance.now() - LOOK_FOR_DEAD_MS
    const isDead = new Map<number, boolean>()
    this.waiting.refuseIf(({ pid, atMs }) => {
      if (pid <= 0 || atMs > before) return false
      const known = isDead.get(pid) ?? !isAlive(pid)
      isDead.set(pid, known)
      return known
    })
  }

  /**
   * Takes over the reads that an earlier process has left: those that it was answering get their answer, the others wait. Before `start`, so that
   * no number can come again.
   */
  takeOver(isGroupInherited: boolean): void {
    const entries = this.#journal.entries()
    this.#lastTurn = entries.at(-1)?.turn ?? 0
    if (!isGroupInherited) {
      for (const { slot } of entries) this.#journal.clear(slot)
      return
    }
    if (!this.#journal.existed) this.#refuseAll()
    for (const [fd, same] of Map.groupBy(entries, ({ event }) => event.fd)) this.#takeOverNumber(fd, same)
  }

  #takeOverNumber(fd: number, entries: readonly JournalEntry[]): void {
    const [first] = entries
    if (fd < 0) {
      for (const { slot } of entries) this.#journal.clear(slot)
    } else if (first?.answer === undefined) {
      Atomics.store(this.#shared.heldNumbers, fd, 1)
      for (const entry of entries) this.#takeOverRead(fd, entry)
    } else {
      // Whether it has got its answer is not known. Alone, it gets the same answer again; of several, none must get that of another.
      if (entries.length === 1) answerRead(this.#options.group, fd, first.answer)
      else refuseNumber(this.#options.group, fd)
      for (const { slot } of entries) this.#journal.clear(slot)
    }
  }

  #takeOverRead(fd: number, { slot, inode, event }: JournalEntry): void {
    Atomics.store(this.#shared.usedSlots, slot, 1)
    const { pid, offset, count } = event
    this.#enter({ slot, fd, pid, atMs: performance.now(), isOrphan: true }, inode, offset, count)
  }

  /** Without a journal it is not known what the reads wait for. */
  #refuseAll(): void {
    for (let fd = 0; fd < MAX_DESCRIPTORS; fd += 1) refuseNumber(this.#options.group, fd)
  }

  /** Begins to answer. */
  start(): void {
    const workerData: EventThreadData = {
      group: this.#options.group,
      journal: this.#options.journal,
      firstTurn: this.#lastTurn + 1,
      slots: Math.max(MIN_SLOTS, Math.min(JOURNAL_SLOTS, this.#options.descriptorLimit - OTHER_DESCRIPTORS)),
      shared: this.#shared,
      layers: this.#layers.port2,
    }
    const worker = startThread(new URL(THREAD_FILE, import.meta.url), {
      workerData,
      transferList: [this.#layers.port2],
      trackUnmanagedFds: false,
      resourceLimits: { maxYoungGenerationSizeMb: 2 },
    })
    worker.on('message', ({ slot, fd, inode, pid, offset, count }: MissedRead) => {
      this.#enter({ slot, fd, pid, atMs: performance.now(), isOrphan: false }, inode, offset, count)
    })
    // Reads wait for ever without it. The next process answers them.
    worker.once('error', (error) => {
      report(`event thread: ${String(error)}`)
      process.exit(1)
    })
  }

  #enter(read: Omit<WaitingRead, 'needs'>, inode: number, offset: number, count: number): void {
    const needs = this.#options.needsOf(inode, offset, count)
    const known: WaitingRead = { ...read, needs: typeof needs === 'number' ? [] : needs }
    this.waiting.queue(known, () => {
      if (typeof needs === 'number') this.waiting.answer(known, needs)
      else this.#options.onRead(known)
    })
  }

  #give({ slot, fd, atMs, isOrphan }: WaitingRead, answer: ReadAnswer): void {
    this.waits.add(performance.now() - atMs)
    const { counters, usedSlots, heldNumbers } = this.#shared
    this.#journal.setAnswer(slot, answer)
    answerRead(this.#options.group, fd, answer)
    this.#journal.clear(slot)
    if (!this.waiting.isHeld(fd)) Atomics.store(heldNumbers, fd, 0)
    // Last: from here on its number comes again.
    if (!isOrphan) closeSync(fd)
    Atomics.store(usedSlots, slot, 0)
    Atomics.add(counters, COUNTER.released, 1)
    Atomics.notify(counters, COUNTER.released)
  }

  /** Makes a layer known to the event thread. Before its file is marked. */
  addLayer({ inode, tarStarts, present }: SharedLayer): void {
    this.#send({ add: { inode, tarStarts, present } })
  }

  /** After its mark is gone. */
  removeLayer(inode: number): void {
    this.#send({ remove: inode })
  }

  #send(message: LayerMessage): void {
    this.#layers.port1.postMessage(message)
    Atomics.add(this.#shared.counters, COUNTER.layers, 1)
  }
}

function refuseNumber(group: number, fd: number): void {
  while (answerRead(group, fd, FAIL_READ)) continue
}
