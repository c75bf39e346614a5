import { setTimeout as sleep } from 'node:timers/promises'
import { isErrno } from '../../src/errors/index.ts'
import { LazyStore, type ReadSums } from './lazy-store.ts'

export interface KillOptions {
  readonly kills: number
  /** Files of each layer: enough that they are not all here before the last kill. */
  readonly files: number
  readonly readers: number
  readonly random: () => number
}

export interface KillOutcome {
  readonly kills: number
  /** Files that were read wrong, and that could not be read. */
  readonly wrong: readonly string[]
  readonly failed: readonly string[]
}

/** Kills the handler of a new store while readers compare every file, up to a number of times, or until they have read everything. */
export async function killHandler({ kills, files, readers, random }: KillOptions): Promise<KillOutcome> {
  await using store = await LazyStore.create({ files, spanBytes: 32 << 10 })
  // The line is so slow that the readers wait most of the time.
  store.registry.intercept = (request, response) => {
    if (request.url?.includes('/blobs/') !== true) return false
    setTimeout(() => {
      store.registry.answer(request, response)
    }, 100)
    return true
  }
  await store.show()
  const reading = new Reading(Array.from({ length: readers }, async () => store.read()))
  let killed = 0
  while (!reading.isDone && killed < kills) {
    const status = await store.client.status().catch(() => undefined)
    await sleep(random() * 300)
    if (status !== undefined && kill(status.pid)) killed += 1
  }
  const compared = (await reading.all).map((read) => store.compare(read))
  return {
    kills: killed,
    wrong: compared.flatMap(({ wrong }) => wrong),
    failed: compared.flatMap(({ failed }) => failed),
  }
}

class Reading {
  readonly all: Promise<ReadSums[]>
  isDone = false

  constructor(reads: readonly Promise<ReadSums>[]) {
    this.all = this.#finish(reads)
  }

  async #finish(reads: readonly Promise<ReadSums>[]): Promise<ReadSums[]> {
    const read = await Promise.all(reads)
    this.isDone = true
    return read
  }
}

/** Returns false for a process that has ended by itself. */
function kill(pid: number): boolean {
  try {
    process.kill(pid, 'SIGKILL')
    return true
  } catch (error) {
    if (isErrno(error, 'ESRCH')) return false
    throw error
  }
}
