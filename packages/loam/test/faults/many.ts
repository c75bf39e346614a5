// R7, R9 and R11: concurrent processes, an unreliable connection, and a long-lived process.
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { check, checkEmptied } from './invariants.ts'
import { History, randomVerb } from './kills.ts'
import type { Group } from './outcome.ts'
import { Random } from './random.ts'
import { type Scene, Store } from './scene.ts'
import { rounds } from '../support/rounds.ts'

const PROCESSES = 8

export const manyProcesses: Group = {
  id: 'R7',
  what: '8 processes and one image, mixed verbs with kills, and a prune at any time',
  run: async ({ scene, isLong }, outcome) => {
    await outcome.repeat(isLong ? 50 : 1, async (random) => {
      using store = new Store()
      const wrong = await pullTogether(scene, store, random.pick(scene.references))
      wrong.push(...(await pullUnderPrune(scene, store)), ...(await mixWithKills(scene, store, random)))
      wrong.push(...(await check(scene, store)), ...(await checkEmptied(store)))
      return wrong
    })
  },
}

/** All want the same image: each blob is fetched once. */
async function pullTogether({ server }: Scene, store: Store, image: string): Promise<string[]> {
  const from = server.requests.length
  const results = await Promise.all(
    Array.from({ length: PROCESSES }, async (_value, index) =>
      store.run({}, 'provision', '--id', `same-${index}`, image),
    ),
  )
  const wrong = results.flatMap(({ status, stderr }) =>
    status === 0 ? [] : [`together: ${stderr.slice(-300)}`],
  )
  const blobs = server.requests.slice(from).filter((request) => request.includes('/blobs/'))
  if (new Set(blobs).size !== blobs.length)
    wrong.push(`together: ${blobs.length} transfers of ${new Set(blobs).size} blobs`)
  for (let index = 0; index < PROCESSES; index += 1) await store.run({}, 'destroy', `same-${index}`)
  return wrong
}

/** A prune does not remove images that are being fetched. */
async function pullUnderPrune({ references }: Scene, store: Store): Promise<string[]> {
  const wrong: string[] = []
  const stop = { isSet: false }
  await using loam = await store.open()
  const prune = async () => {
    while (!stop.isSet) {
      await loam.images.prune({ all: true, local: true })
      await sleep(100)
    }
  }
  const pruning = prune()
  for (let round = 0; round < 3; round += 1) {
    const results = await Promise.all(
      references.map(async (image, index) => store.run({}, 'provision', '--id', `pruned-${index}`, image)),
    )
    for (const { status, stderr } of results)
      if (status !== 0) wrong.push(`under prune: ${stderr.slice(-300)}`)
    await Promise.all(references.map(async (_image, index) => store.run({}, 'destroy', `pruned-${index}`)))
  }
  stop.isSet = true
  await pruning
  return wrong
}

/** Whatever each does and however it ends, the store is sound. */
async function mixWithKills(scene: Scene, store: Store, random: Random): Promise<string[]> {
  const work = async (index: number) => {
    const own = new Random(random.below(2 ** 31) + index)
    const history = new History()
    for (let step = 0; step < 3; step += 1) {
      const verb = randomVerb(own, scene, history).map((word) =>
        /^c\d+$/.test(word) ? `p${index}-${word}` : word,
      )
      if (verb[0] === 'recover') continue
      await store.run({ killAfterMs: own.next() < 0.4 ? own.below(900) + 50 : undefined }, ...verb)
    }
  }
  await Promise.all(Array.from({ length: PROCESSES }, async (_value, index) => work(index)))
  return []
}

/** The ways in which an answer may fail. */
const TROUBLES: Readonly<
  Record<string, (request: IncomingMessage, response: ServerResponse, scene: Scene) => void>
> = {
  reset: (request) => request.socket.resetAndDestroy(),
  cut: (request, response, { server }) => {
    server.answer(request, response)
    setTimeout(() => request.socket.destroy(), 1)
  },
  stall: (_request, response) => {
    response.writeHead(200, { 'content-length': '1000' })
    response.write('x')
  },
  'bad gateway': (_request, response) => {
    response.writeHead(503).end('no')
  },
  'too many': (_request, response) => {
    response.writeHead(429, { 'retry-after': '1' }).end('{"errors":[]}')
  },
  // A manifest of a tag may be any content; a blob may not.
  rubbish: (request, response, { server }) => {
    if (request.url?.includes('/blobs/') !== true) {
      server.answer(request, response)
      return
    }
    response.writeHead(200, { 'content-type': 'application/octet-stream' }).end('rubbish')
  },
}

export const badLines: Group = {
  id: 'R9',
  what: 'pulls over lines that break, stall and lie, each answer with 5 %',
  run: async ({ scene, isLong }, outcome) => {
    let troubles = 0
    try {
      await outcome.repeat(isLong ? 2000 : 12, async (random) => {
        using store = new Store()
        scene.server.intercept = (request, response) => {
          if (random.next() >= 0.05) return false
          const trouble = random.pick(Object.keys(TROUBLES))
          outcome.count(trouble)
          troubles += 1
          TROUBLES[trouble]?.(request, response, scene)
          return true
        }
        const image = random.pick(scene.references)
        const { status, stderr } = await store.run(
          { env: { LOAM_FETCHER_STALL_TIMEOUT: '1s' } },
          'pull',
          image,
        )
        scene.server.intercept = () => false
        const wrong = status === 0 ? [] : [`${image}: ${stderr.slice(-300)}`]
        return [...wrong, ...(await check(scene, store, { pulled: new Set(status === 0 ? [image] : []) }))]
      })
      outcome.figures['answers that went wrong'] = troubles
      outcome.require('answers that went wrong')
    } finally {
      scene.server.intercept = () => false
    }
  },
}

export const longLife: Group = {
  id: 'R11',
  what: 'root filesystems made and removed in one process',
  run: async ({ scene, isLong }, outcome) => {
    const lives = isLong ? 10_000 : rounds(1000, 500)
    using store = new Store()
    const wrong: string[] = []
    {
      await using loam = await store.open()
      const image = scene.references[0] ?? ''
      await loam.provision(image, { id: 'kept' })
      const samples: Sample[] = []
      for (let round = 0; round <= lives; round += 1) {
        await loam.provision(image, { id: 'passing' })
        await loam.destroy('passing')
        if (round % (lives / 10) > 0) continue
        collectAll()
        samples.push({
          files: readdirSync('/proc/self/fd').length,
          mounts: store.mounts().length,
          resident: residentBytes(),
          heap: process.memoryUsage().heapUsed,
        })
      }
      // The first ones fill caches.
      const [, , first] = samples
      const last = samples.at(-1)
      if (first === undefined || last === undefined) throw new Error('no samples')
      if (last.files > first.files) wrong.push(`${last.files - first.files} files more are open`)
      if (last.mounts !== first.mounts) wrong.push(`${last.mounts - first.mounts} mounts more`)
      for (const [kind, { noise, each }] of Object.entries(GROWTH)) {
        const bytes = growthOf(samples.map((sample) => sample[kind as keyof typeof GROWTH]))
        const shown = `${(bytes / 2 ** 10).toFixed(0)} KiB in ${lives / 2} rounds`
        outcome.figures[kind] = shown
        if (bytes > noise + each * (lives / 2)) wrong.push(`${kind} memory grew by ${shown}`)
      }
      await loam.destroy('kept')
    }
    outcome.rounds += lives
    outcome.add(0, [...wrong, ...(await check(scene, store)), ...(await checkEmptied(store))])
  },
}

interface Sample {
  readonly files: number
  readonly mounts: number
  /** Bytes of memory that the process has. */
  readonly resident: number
  /** Bytes of objects that are in use on the heap of the main thread. */
  readonly heap: number
}

/** Bytes by which memory may grow: what differs from run to run, and that much for each round. Small leaks show in the long form only. */
const GROWTH = {
  resident: { noise: 8 << 20, each: 200 },
  heap: { noise: 1 << 20, each: 100 },
} as const

/** Returns by how much the later half of the samples is above the earlier one. The smallest of several samples counts. */
function growthOf(samples: readonly number[]): number {
  return Math.min(...samples.slice(7, 11)) - Math.min(...samples.slice(2, 6))
}

/** An ordinary garbage collection keeps the space for new objects at its largest size, several times the size in use. */
function collectAll(): void {
  const gc = globalThis.gc as ((options: object) => void) | undefined
  gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' })
}

function residentBytes(): number {
  const [, pages] = readFileSync('/proc/self/statm', 'utf8').split(' ')
  return Number(pages) * 4096
}
