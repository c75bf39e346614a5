import { statfs } from 'node:fs/promises'
import type { Gauge, Registry } from 'prom-client'
import type { Loam } from 'loamfs'
import { imageCountOf, snapshotCountsOf, threadLoadOf } from 'loamfs/internal'
import type { Log } from '../log.ts'
import { createGauge } from './gauge.ts'
import { LazyFigures } from './lazy-figures.ts'

/** Figures from the database are read again after this time at the earliest. */
const COUNT_INTERVAL_MS = 10_000
/** The disk is measured again after this time at the earliest, */
const MEASURE_INTERVAL_MS = 300_000
/** and after as many times the time that it took: at most a twentieth of a thread's time goes into it. */
const MEASURE_SHARE = 20

/**
 * Gauges of the store's content. A scrape never waits for them: it gets the latest values, none before the first count, and starts a new count
 * if they are old. Threads measure the disk.
 */
export class StoreFigures {
  readonly #loam: Loam
  readonly #log: Log
  readonly #containers: Gauge
  readonly #images: Gauge
  readonly #rootfses: Gauge<'backend' | 'state'>
  readonly #snapshots: Gauge<'kind'>
  readonly #busyThreads: Gauge<'pool'>
  readonly #waitingTasks: Gauge<'pool'>
  readonly #bytes: Gauge<'kind'>
  readonly #reclaimable: Gauge
  readonly #measured: Gauge
  readonly #size: Gauge
  readonly #free: Gauge
  readonly #lazy: LazyFigures
  readonly #counts: Interval
  readonly #measures: Interval

  constructor({ loam, log, registry }: { loam: Loam; log: Log; registry: Registry }) {
    this.#loam = loam
    this.#log = log
    const gauge = <Label extends string = never>(
      name: string,
      help: string,
      labels: readonly Label[] = [],
    ): Gauge<Label> => createGauge({ name, help, labels, registry })
    this.#containers = gauge('containers', 'Containers.')
    this.#images = gauge('images', 'Images in the store.')
    this.#rootfses = gauge('root_filesystems', 'Root filesystems by backend and state.', ['backend', 'state'])
    this.#snapshots = gauge('snapshots', 'Snapshots of containerd by kind.', ['kind'])
    this.#busyThreads = gauge('threads_busy', 'Threads that do a task.', ['pool'])
    this.#waitingTasks = gauge('tasks_waiting', 'Tasks that wait for a thread.', ['pool'])
    this.#bytes = gauge('store_bytes', 'Disk usage by kind; total is the whole store.', ['kind'])
    this.#reclaimable = gauge('store_reclaimable_bytes', 'Disk usage of layers that nothing needs.')
    this.#measured = gauge('store_measured_timestamp_seconds', 'Time when the disk was measured.')
    this.#size = gauge('filesystem_size_bytes', 'Size of the file system of the store.')
    this.#free = gauge('filesystem_avail_bytes', 'Space of that file system that every user may still write.')
    this.#lazy = new LazyFigures(loam, registry)
    this.#counts = new Interval(COUNT_INTERVAL_MS, async () => this.#count())
    this.#measures = new Interval(MEASURE_INTERVAL_MS, async () => this.#measure())
  }

  /** Refreshes old values in the background. */
  refresh(): void {
    for (const [pool, { busy, waiting }] of Object.entries(threadLoadOf(this.#loam))) {
      this.#busyThreads.set({ pool }, busy)
      this.#waitingTasks.set({ pool }, waiting)
    }
    for (const interval of [this.#counts, this.#measures]) {
      void interval.run().catch((error: unknown) => {
        this.#log.warn('count what the store has', { error: String(error) })
      })
    }
  }

  async #count(): Promise<void> {
    const loam = this.#loam
    const containers = await loam.containers.list()
    const { blocks, bavail, bsize } = await statfs(loam.store.configuration.values.root)
    this.#size.set(blocks * bsize)
    this.#free.set(bavail * bsize)
    this.#containers.set(containers.length)
    this.#images.set(imageCountOf(loam))
    for (const [kind, count] of Object.entries(snapshotCountsOf(loam))) this.#snapshots.set({ kind }, count)
    this.#rootfses.reset()
    for (const { backend, state, isStanding } of containers.flatMap(({ rootfses }) => rootfses)) {
      this.#rootfses.inc({ backend, state: state === 'ready' && !isStanding ? 'not mounted' : state })
    }
    await this.#lazy.count()
  }

  async #measure(): Promise<void> {
    const { layers, containers, unusedBytes, totalBytes } = await this.#loam.store.usage()
    const sum = (sizes: readonly number[]) => sizes.reduce((all, bytes) => all + bytes, 0)
    this.#bytes.set({ kind: 'layers' }, sum(layers.map(({ bytes }) => bytes)))
    this.#bytes.set({ kind: 'unpacked' }, sum(layers.map(({ folderBytes }) => folderBytes)))
    this.#bytes.set({ kind: 'containers' }, sum(containers.map(({ bytes }) => bytes)))
    this.#bytes.set({ kind: 'total' }, totalBytes)
    this.#reclaimable.set(unusedBytes)
    this.#measured.set(Date.now() / 1000)
  }
}

/** Work that is repeated on request, at a minimum interval, and never twice at once. */
class Interval {
  readonly #intervalMs: number
  readonly #work: () => Promise<void>
  #nextMs = 0
  #isRunning = false

  constructor(intervalMs: number, work: () => Promise<void>) {
    this.#intervalMs = intervalMs
    this.#work = work
  }

  async run(): Promise<void> {
    const startMs = performance.now()
    if (this.#isRunning || startMs < this.#nextMs) return
    this.#isRunning = true
    try {
      await this.#work()
    } finally {
      this.#isRunning = false
      const endMs = performance.now()
      this.#nextMs = endMs + Math.max(this.#intervalMs, (endMs - startMs) * MEASURE_SHARE)
    }
  }
}
