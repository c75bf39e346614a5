import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isRetriedStatus, Patience, type RetryWait } from './retry.ts'
import { retryAfterMs } from './responses.ts'
import type { Response } from './transport.ts'

const answer = (status: number, headers: Record<string, string> = {}) =>
  ({ statusCode: status, headers }) as unknown as Response

/** Creates a Patience with its own clock, and records its waits. */
function make(options: { tries?: number; waitMs?: number } = {}, signal?: AbortSignal) {
  const slept: number[] = []
  const waits: RetryWait[] = []
  const patience = new Patience(
    {
      tries: 5,
      baseMs: 100,
      waitMs: 90_000,
      ...options,
      onWait: (wait) => waits.push(wait),
      sleep: async (ms) => {
        slept.push(ms)
      },
    },
    { attempted: 'get x', signal },
  )
  return { patience, slept, waits }
}

async function waitsUntilGivenUp(patience: Patience, response: Response, most = 1000): Promise<number> {
  for (let waits = 0; waits < most; waits += 1) if (!(await patience.wait({ response }))) return waits
  return most
}

test('each status of a server fault is retried, but for those that stay', () => {
  const statuses = Array.from({ length: 500 }, (_, index) => index + 100)
  const retried = statuses.filter((status) => isRetriedStatus(status))
  const faults = statuses.filter((status) => status >= 500 && status !== 501 && status !== 505)
  assert.deepEqual(retried, [408, 425, 429, ...faults])
})

describe('patience', () => {
  test('the waits between tries double, with a random part, up to a number of tries', async () => {
    const { patience, slept, waits } = make()
    assert.equal(await waitsUntilGivenUp(patience, answer(503)), 4)
    for (const [index, ms] of slept.entries()) {
      assert.ok(ms >= 75 * 2 ** index && ms <= 125 * 2 ** index, String(slept))
    }
    assert.deepEqual(waits.map(({ attempted, reason }) => [attempted, reason])[0], ['get x', 'answered 503'])
  })

  test("a wait is as long as a server asks, in seconds or until a date by the server's clock", async () => {
    const date = new Date(Date.UTC(2001, 0, 1)).toUTCString()
    const later = new Date(Date.UTC(2001, 0, 1, 0, 0, 20)).toUTCString()
    for (const headers of [{ 'retry-after': '20' }, { 'retry-after': later, date }]) {
      const { patience, slept } = make()
      assert.equal(await patience.wait({ response: answer(429, headers) }), true)
      assert.ok(slept[0] !== undefined && slept[0] >= 20_000 && slept[0] < 20_200, String(slept))
    }
  })

  test('a fraction of a second that a server asks for is waited for', async () => {
    const { patience, slept } = make()
    assert.equal(await patience.wait({ response: answer(429, { 'retry-after': '2.5' }) }), true)
    assert.ok(slept[0] !== undefined && slept[0] >= 2500 && slept[0] < 2700, String(slept))
  })

  test('each form of an HTTP date means UTC, in any time zone of this machine', () => {
    const zone = process.env['TZ']
    process.env['TZ'] = 'Asia/Tokyo'
    try {
      for (const form of [
        'Sun, 06 Nov 1994 08:49:37 GMT',
        'Sunday, 06-Nov-94 08:49:37 GMT',
        'Sun Nov  6 08:49:37 1994',
      ]) {
        const headers = { 'retry-after': form, date: 'Sun, 06 Nov 1994 08:49:30 GMT' }
        assert.equal(retryAfterMs(answer(429, headers)), 7000, form)
      }
    } finally {
      if (zone === undefined) delete process.env['TZ']
      else process.env['TZ'] = zone
    }
  })

  test('all waits together stay within the bound, however often a server asks', async () => {
    const { patience, slept } = make()
    const response = answer(429, { 'retry-after': '7' })
    assert.equal(await waitsUntilGivenUp(patience, response), 12)
    const sum = slept.reduce((total, ms) => total + ms, 0)
    assert.ok(sum <= 90_000, String(sum))
    assert.match(
      patience.refusal(response),
      /asks to wait 7 s, the total limit is 90 s .*after 8\d s of waiting/,
    )
  })

  test('a wait that is longer than the remaining time does not begin, and the error has its length', async () => {
    const { patience, slept } = make()
    const response = answer(503, { 'retry-after': '91' })
    assert.equal(await patience.wait({ response }), false)
    assert.deepEqual(slept, [])
    assert.match(patience.refusal(response), /asks to wait 91 s, the total limit is 90 s/)
  })

  test('a server that asks for no time, or for an invalid one, gets the usual tries', async () => {
    for (const value of ['0', 'soon', '-1', '5, 5', 'wait 2099', '', '9999999999999']) {
      const { patience } = make()
      assert.equal(await waitsUntilGivenUp(patience, answer(429, { 'retry-after': value })), 4, value)
    }
  })

  test('a caller who allows one try gets one', async () => {
    assert.equal(await waitsUntilGivenUp(make({ tries: 1 }).patience, answer(429, { 'retry-after': '1' })), 0)
  })

  test('the tries start again when something has come', async () => {
    const { patience } = make()
    await waitsUntilGivenUp(patience, answer(503))
    patience.restart()
    assert.equal(await waitsUntilGivenUp(patience, answer(503)), 4)
  })

  test('the waits that a server asks for have one bound in all, also where something comes in between', async () => {
    const { patience, slept } = make()
    const busy = answer(429, { 'retry-after': '20' })
    let waits = 0
    for (; await patience.wait({ response: busy }); waits += 1) {
      patience.restart()
      assert.equal(await patience.wait({ error: Object.assign(new Error(), { code: 'ECONNRESET' }) }), true)
      patience.restart()
    }
    assert.equal(waits, 4)
    assert.ok(slept.reduce((total, ms) => total + ms, 0) <= 90_500)
    assert.match(patience.refusal(busy), /after 8\d s of waiting/)
  })

  test('a wait ends by its signal', async () => {
    const stop = new AbortController()
    const patience = new Patience(
      { tries: 5, baseMs: 60_000, waitMs: 90_000 },
      { attempted: 'get x', signal: stop.signal },
    )
    setTimeout(() => {
      stop.abort('mine')
    }, 20)
    await assert.rejects(patience.wait(), { code: 'CANCELED', cause: 'mine' })
    await assert.rejects(patience.wait(), { code: 'CANCELED', cause: 'mine' })
  })
})
