// What clients of the daemon's API do in R16, and what each was told.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { connectLoam, type RemoteLoam } from '../../src/client/index.ts'
import { Transport } from '../../src/client/transport.ts'
import { isLoamError, LoamError } from '../../src/index.ts'
import type { Random } from './random.ts'

/** Longer than anything takes here: a call without an answer by then has none. */
const ANSWER_LIMIT_MS = 30_000
const GONE = ['DAEMON_LOST', 'DAEMON_UNAVAILABLE'] as const

/** What the daemon has confirmed, of all clients together. */
export class Confirmed {
  readonly pulled = new Set<string>()
  /** Names that images were put under. */
  readonly put = new Set<string>()
  readonly containers = new Map<string, { image: string; written: string }>()
  /** Containers that may be there or not: nobody was told. */
  readonly unsure = new Set<string>()
  #pruning = 0
  #prunes = 0
  #next = 0

  newId(): string {
    this.#next += 1
    return `a${this.#next}`
  }

  /** Pulls, and counts on it unless something was pruned meanwhile. */
  async notePull(image: string, pull: () => Promise<unknown>): Promise<void> {
    const before = this.#prunes
    await pull()
    if (this.#pruning === 0 && this.#prunes === before) this.pulled.add(image)
  }

  async notePrune(prune: () => Promise<unknown>): Promise<void> {
    this.#pruning += 1
    this.#prunes += 1
    this.pulled.clear()
    try {
      await prune()
    } finally {
      this.#pruning -= 1
    }
  }
}

export interface ClientOptions {
  readonly socket: string
  readonly images: readonly string[]
  /** Address of an image to put. */
  readonly layout: string
  readonly confirmed: Confirmed
  /** Ends the client after what it does. */
  readonly stop: AbortSignal
  /** Whether the daemon may be gone: then a client ends when it is told so. */
  readonly mayBeGone: () => boolean
}

interface Step {
  readonly loam: RemoteLoam
  readonly random: Random
  readonly signal: AbortSignal | undefined
}

const WEIGHTS = {
  pull: 20,
  put: 8,
  provision: 25,
  destroy: 14,
  remove: 6,
  prune: 4,
  download: 10,
  fsck: 4,
  usage: 4,
  list: 5,
} as const

/** One client with several calls, one after the other, some of which it cancels. */
export class ApiClient {
  readonly #options: ClientOptions
  /** What it was told that it should not have been. */
  readonly wrong: string[] = []
  /** How many calls were answered, canceled, and told that the daemon is gone. */
  readonly told = { answered: 0, canceled: 0, gone: 0 }

  constructor(options: ClientOptions) {
    this.#options = options
  }

  /** Works until it is stopped, or until the daemon is gone. Never rejects. */
  async run(random: Random): Promise<void> {
    const { socket, stop } = this.#options
    try {
      await using loam = await connectLoam({ socket })
      while (!stop.aborted && (await this.#step(loam, random)));
    } catch (error) {
      this.#judge('connect', error)
    }
  }

  async #step(loam: RemoteLoam, random: Random): Promise<boolean> {
    const name = random.weighted(WEIGHTS)
    const signal = random.next() < 0.1 ? AbortSignal.timeout(random.below(150)) : undefined
    const { promise: late, reject } = Promise.withResolvers<never>()
    const limit = setTimeout(() => {
      reject(new Error(`no answer in ${ANSWER_LIMIT_MS} ms`))
    }, ANSWER_LIMIT_MS)
    try {
      await Promise.race([this[name]({ loam, random, signal }), late])
      this.told.answered += 1
      return true
    } catch (error) {
      return this.#judge(name, error)
    } finally {
      clearTimeout(limit)
    }
  }

  /** Returns whether the client goes on after this error. */
  #judge(what: string, error: unknown): boolean {
    if (isLoamError(error, 'CANCELED')) this.told.canceled += 1
    else if (isLoamError(error, ...GONE)) {
      this.told.gone += 1
      if (this.#options.mayBeGone()) return false
      this.wrong.push(`${what}: told that the daemon is gone, while one serves: ${error.message}`)
    } else this.wrong.push(`${what}: ${error instanceof Error ? error.stack : String(error)}`)
    return true
  }

  async pull({ loam, random, signal }: Step): Promise<void> {
    const { confirmed, images } = this.#options
    const image = random.pick(images)
    const onEvent = random.next() < 0.5 ? () => undefined : undefined
    await confirmed.notePull(image, async () =>
      loam.pull(image, { signal, ...(onEvent === undefined ? {} : { onEvent }) }),
    )
  }

  async put({ loam, signal }: Step): Promise<void> {
    const { confirmed, layout } = this.#options
    const { name } = await loam.images.put(layout, `example.test/${confirmed.newId()}:1`, { signal })
    confirmed.put.add(name)
  }

  async provision({ loam, random, signal }: Step): Promise<void> {
    const { confirmed, images } = this.#options
    const id = confirmed.newId()
    const image = random.pick(images)
    const backend = random.pick(['erofs', 'overlay', 'copy'])
    const { rootfsPath } = await loam.provision(image, { id, signal, backend }).catch((error: unknown) => {
      confirmed.unsure.add(id)
      throw error
    })
    writeFileSync(join(rootfsPath, 'written'), id)
    confirmed.containers.set(id, { image, written: id })
  }

  async destroy({ loam, random, signal }: Step): Promise<void> {
    const { containers, unsure } = this.#options.confirmed
    const known = [...containers.keys(), ...unsure]
    if (known.length === 0) return
    const id = random.pick(known)
    const isCounted = containers.delete(id)
    unsure.add(id)
    const existed = await loam.destroy(id, { signal })
    unsure.delete(id)
    if (isCounted && !existed) this.wrong.push(`destroy: ${id} was confirmed, and did not exist`)
  }

  async remove({ loam, random, signal }: Step): Promise<void> {
    const { put } = this.#options.confirmed
    if (put.size === 0) return
    const name = random.pick([...put])
    put.delete(name)
    await loam.images.remove(name, { signal })
  }

  async prune({ loam, random }: Step): Promise<void> {
    const all = random.next() < 0.5
    if (!all) await loam.images.prune()
    else await this.#options.confirmed.notePrune(async () => loam.images.prune({ all }))
  }

  async download({ random }: Step): Promise<void> {
    const { containers } = this.#options.confirmed
    const known = [...containers.keys()]
    if (known.length === 0) return
    const id = random.pick(known)
    try {
      const bytes = await download(this.#options.socket, id, random.pick(['tar', 'erofs']))
      if (containers.has(id) && !bytes.includes(id))
        this.wrong.push(`download ${id}: ${bytes.length} bytes without what was written to it`)
    } catch (error) {
      // Another client may have destroyed it meanwhile.
      if (containers.has(id) || !isLoamError(error, 'CONTAINER_NOT_FOUND', 'ROOTFS_UNMOUNTED')) throw error
    }
  }

  async fsck({ loam, signal }: Step): Promise<void> {
    const { problems } = await loam.store.fsck({ repair: false, signal })
    if (problems.length > 0) this.wrong.push(`fsck: ${JSON.stringify(problems)}`)
  }

  async usage({ loam }: Step): Promise<void> {
    await loam.store.usage()
  }

  async list({ loam }: Step): Promise<void> {
    await Promise.all([loam.images.list(), loam.containers.list()])
  }
}

/** Reads a stream to its end. @throws the errors of the API; DAEMON_LOST for a stream that is cut, which every client of HTTP notices */
async function download(socket: string, name: string, format: 'tar' | 'erofs'): Promise<Buffer> {
  const transport = new Transport(socket)
  try {
    return await buffer(transport.download('containers.download', { name, format }, undefined))
  } catch (error) {
    if (isLoamError(error)) throw error
    throw new LoamError('DAEMON_LOST', 'download: the stream was cut', { cause: error })
  } finally {
    transport.close()
  }
}
