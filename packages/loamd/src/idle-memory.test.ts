import assert from 'node:assert/strict'
import { test } from 'node:test'
import { IdleMemory } from './idle-memory.ts'

/** Tells for each processor time, in milliseconds, whether the check at it collected. */
function checksAt(...times: readonly number[]): boolean[] {
  let now = 0
  using memory = new IdleMemory({ usedMs: () => now, collect: () => (now += 30) })
  return times.map((time) => {
    now = Math.max(now, time)
    return memory.check()
  })
}

test('memory is returned once, when the main thread is idle after work', () => {
  assert.deepEqual(checksAt(800, 810, 845, 850, 860), [false, true, false, false, false])
})

test('memory is not collected while there is work, and again only after more work', () => {
  assert.deepEqual(checksAt(500, 1000, 1500, 1510), [false, false, false, true])
  assert.deepEqual(checksAt(500, 510, 600, 610, 800, 810), [false, true, false, false, false, true])
})

test('an idle daemon returns the free pages of its heap to the system', async () => {
  using memory = new IdleMemory()
  const held = process.memoryUsage().heapTotal
  let lists: unknown[] = []
  for (let index = 0; index < 40; index += 1) lists.push(Array.from({ length: 100_000 }, () => ({ index })))
  assert.ok(process.memoryUsage().heapTotal > held + (64 << 20))
  lists = []
  memory.check()
  assert.equal(memory.check(), true)
  assert.ok(process.memoryUsage().heapTotal < held + (16 << 20))
})
