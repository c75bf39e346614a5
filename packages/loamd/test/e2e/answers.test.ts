// The daemon answers calls while it removes unused files.
import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Client } from '../support/client.ts'
import { DaemonWorld } from '../support/world.ts'

const FILES = 30_000

test('the snapshots API answers while a clean-up removes a layer of 30,000 files', async (context) => {
  await using world = new DaemonWorld()
  await world.startDaemon()
  const client = new Client(world.socket)
  await client.prepare('a')
  for (let index = 0; index < FILES; index += 1) {
    const folder = world.path('store', 'layers', `sha256:${'a'.repeat(64)}`, 'fs', `${index % 30}`)
    if (index < 30) mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, `${index}`), '')
  }
  const ended = new AbortController()
  const cleaning = client.cleanup().finally(() => {
    ended.abort()
  })
  const waitsMs: number[] = []
  while (!ended.signal.aborted) {
    const startMs = performance.now()
    await client.stat('a')
    waitsMs.push(performance.now() - startMs)
  }
  await cleaning
  client.close()
  const longest = Math.max(...waitsMs).toFixed(1)
  const median = waitsMs.toSorted((a, b) => a - b)[waitsMs.length >> 1]?.toFixed(1) ?? ''
  context.diagnostic(`${waitsMs.length} calls: median ${median} ms, slowest ${longest} ms`)
  // A call that blocked the thread would let two calls through, one before it and one after it.
  assert.ok(waitsMs.length >= 20, `${waitsMs.length} calls were answered, the slowest after ${longest} ms`)
  for (const folder of ['layers', 'trash']) assert.deepEqual(readdirSync(world.path('store', folder)), [])
})
