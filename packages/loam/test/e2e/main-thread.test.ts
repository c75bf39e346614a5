// Long work of a store leaves the main thread to others: the daemon answers other requests meanwhile.
import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { test } from 'node:test'
import { openLoam } from '../../src/index.ts'
import { World } from '../support/world.ts'

const FILES = 30_000
/** A synchronous removal gives none. An asynchronous one is divided into hundreds of pieces. */
const MIN_TURNS = 30

const open = async (world: World) =>
  openLoam({ file: null, flags: { root: world.root, state: world.state }, env: process.env })

function fillDirectory(path: string): void {
  for (let index = 0; index < FILES; index += 1) {
    const folder = join(path, `${index % 30}`)
    if (index < 30) mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, `${index}`), '')
  }
}

/** Counts how often other callers get a turn during an operation, and their longest wait. */
async function watch(act: () => Promise<unknown>): Promise<{ turns: number; maxMs: number; allMs: number }> {
  const delay = monitorEventLoopDelay({ resolution: 1 })
  let turns = 0
  let isOver = false
  const count = () => {
    turns += 1
    if (!isOver) setImmediate(count)
  }
  setImmediate(count)
  delay.enable()
  const startMs = performance.now()
  try {
    await act()
  } finally {
    isOver = true
    delay.disable()
  }
  return { turns, maxMs: delay.max / 1e6, allMs: performance.now() - startMs }
}

function assertShared({ turns, maxMs, allMs }: Awaited<ReturnType<typeof watch>>): void {
  const what = `${turns} turns in ${allMs.toFixed()} ms, at most ${maxMs.toFixed(1)} ms apart`
  assert.ok(turns >= MIN_TURNS, what)
  // Any number of milliseconds may pass on a busy machine, but not most of the time at once.
  assert.ok(maxMs < allMs / 2, what)
}

test('a prune that removes a layer of 30,000 files lets other calls have their turn', async () => {
  using world = new World()
  const loam = await open(world)
  fillDirectory(join(world.root, 'layers', `sha256:${'a'.repeat(64)}`, 'fs'))
  assertShared(
    await watch(async () => {
      await loam.images.prune()
      // Removed entries are unlinked afterwards.
      await loam[Symbol.asyncDispose]()
    }),
  )
  for (const folder of ['layers', 'trash']) assert.deepEqual(readdirSync(join(world.root, folder)), [])
})

test('a recovery that sweeps 30,000 unfinished files, and a measurement of as many, let other calls have their turn', async () => {
  using world = new World()
  await using loam = await open(world)
  fillDirectory(join(world.root, 'trash', 'left'))
  assertShared(await watch(async () => loam.store.usage()))
  assertShared(await watch(async () => loam.containers.recover()))
  assert.deepEqual(readdirSync(join(world.root, 'trash')), [])
})
