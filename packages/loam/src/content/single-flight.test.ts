import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { SingleFlight } from './single-flight.ts'

describe('shared work', () => {
  test('shared work is done once, and continues when the caller who began it leaves', async () => {
    const flights = new SingleFlight()
    const first = new AbortController()
    let begun = 0
    let stopped = false
    const work = async (signal: AbortSignal) => {
      begun += 1
      signal.addEventListener('abort', () => (stopped = true))
      await sleep(100)
    }
    const left = flights.join('x', first.signal, work)
    const others = [1, 2].map(async () => flights.join('x', undefined, work))
    first.abort('mine')
    await assert.rejects(left, { code: 'CANCELED', cause: 'mine' })
    assert.deepEqual(await Promise.all(others), [false, false])
    assert.deepEqual([begun, stopped], [1, false])
  })

  test('shared work stops when its last caller leaves, who waits for its end, and restarts for the next caller', async () => {
    const flights = new SingleFlight()
    const stops = [new AbortController(), new AbortController()]
    const events: string[] = []
    const work = async (signal: AbortSignal) => {
      events.push('begun')
      await new Promise((resolve) => {
        signal.addEventListener('abort', resolve)
      })
      await sleep(30)
      events.push('cleaned up')
      throw new Error('stopped')
    }
    const all = stops.map(async ({ signal }) => flights.join('x', signal, work))
    const settled = Promise.allSettled(all)
    for (const stop of stops) stop.abort()
    assert.deepEqual(
      (await settled).map(({ status }) => status),
      ['rejected', 'rejected'],
    )
    assert.deepEqual(events, ['begun', 'cleaned up'])
    assert.equal(await flights.join('x', undefined, async () => undefined), true)
  })

  test('a failure of shared work goes to the caller who began it, and the others retry', async () => {
    const flights = new SingleFlight()
    const failing = flights.join('x', undefined, async () => {
      await sleep(20)
      throw new Error('no credentials')
    })
    const joined = flights.join('x', undefined, async () => undefined)
    await assert.rejects(failing, /no credentials/)
    assert.equal(await joined, false)
  })
})
