import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type ErrorCode, LoamError } from '../errors/index.ts'
import { FillHealth } from './fill-health.ts'

const failure = (code: ErrorCode, details = {}) => new LoamError(code, 'it failed', { details })

/** Fails again and again, each time when the pause is over. Returns the pauses in ms. */
function pausesOf(health: FillHealth, failures: readonly LoamError[], begin = 0): number[] {
  let now = begin
  return failures.map((each) => {
    health.failed(each, now)
    const pause = (health.nextMs(now) ?? now) - now
    now += pause
    return pause
  })
}

describe('the health of a layer that is filled', () => {
  test('pauses grow to five seconds, and begin anew when a span arrives', () => {
    const health = new FillHealth(0)
    const gone = Array.from({ length: 8 }, () => failure('REGISTRY_RESPONSE'))
    assert.deepEqual(pausesOf(health, gone), [100, 200, 400, 800, 1600, 3200, 5000, 5000])
    health.arrived(0, 100_000)
    assert.equal(health.failureAt(100_000), undefined)
    assert.deepEqual(pausesOf(health, gone.slice(0, 2), 100_000), [100, 200])
  })

  test('a pause is as long as a registry asks, and an hour at most', () => {
    const asking = [5, 7000, 1e12].map((retryAfterMs) => failure('REGISTRY_RESPONSE', { retryAfterMs }))
    assert.deepEqual(pausesOf(new FillHealth(0), asking), [100, 7000, 3_600_000])
  })

  test('runs that end by what a layer is paused for already do not make the pause longer', () => {
    const health = new FillHealth(0)
    assert.equal(health.failed(failure('REGISTRY_RESPONSE'), 0), true)
    assert.equal(health.failed(failure('REGISTRY_RESPONSE'), 99), false)
    assert.equal(health.nextMs(99), 100)
    assert.equal(health.failed(failure('REGISTRY_RESPONSE'), 100), true)
  })

  test('a disk that is full while something else has failed is a failure of its own, and reads fail while it pauses', () => {
    const health = new FillHealth(0)
    health.failed(failure('REGISTRY_RESPONSE'), 0)
    assert.equal(health.isRefused(3, 10), false)
    assert.equal(health.failed(failure('NO_SPACE'), 10), true)
    assert.equal(health.failureAt(10)?.code, 'NO_SPACE')
    const until = health.nextMs(10) ?? 0
    assert.ok(health.isRefused(3, until - 1))
    assert.ok(!health.isRefused(3, until))
  })

  test('runs that end together are one failure, whatever each of them ended by', () => {
    const health = new FillHealth(0)
    const codes = [
      'REGISTRY_RESPONSE',
      'REGISTRY_UNREACHABLE',
      'DIGEST_MISMATCH',
      'REGISTRY_RESPONSE',
    ] as const
    assert.deepEqual(
      codes.map((code) => health.failed(failure(code), 5)),
      [true, false, false, false],
    )
    assert.deepEqual([health.failures, health.nextMs(5)], [1, 105])
  })

  test('a full disk lets reads fail for as long as it pauses by itself, also beside a longer pause', () => {
    const health = new FillHealth(0)
    health.failed(failure('REGISTRY_RATE_LIMITED', { retryAfterMs: 600_000 }), 0)
    assert.equal(health.failed(failure('NO_SPACE'), 2000), true)
    assert.deepEqual([health.isRefused(3, 2999), health.isRefused(3, 3000)], [true, false])
    const codes = [2999, 3000].map((now) => health.failureAt(now)?.code)
    assert.deepEqual(codes, ['NO_SPACE', 'REGISTRY_RATE_LIMITED'])
    assert.equal(health.nextMs(3000), 600_000)
  })

  test('reads of a span fail after three tries, for longer after each further one, and those of others wait', () => {
    const health = new FillHealth(0)
    assert.deepEqual([health.wasWrong(4, 0), health.wasWrong(4, 1)], [false, false])
    let now = 10
    for (const seconds of [1, 2, 4, 8, 16, 32, 60, 60]) {
      assert.equal(health.wasWrong(4, now), true)
      assert.deepEqual(health.takeReleased(now), [])
      const next = health.nextMs(now) ?? 0
      assert.equal(next - now, seconds * 1000)
      assert.deepEqual([health.isRefused(4, next - 1), health.isHeldBack(4, next - 1)], [true, true])
      assert.deepEqual([health.isRefused(5, now), health.isHeldBack(5, now)], [false, false])
      assert.deepEqual([health.isRefused(4, next), health.isHeldBack(4, next)], [false, false])
      assert.deepEqual([health.takeReleased(next), health.takeReleased(next)], [[4], []])
      assert.equal(health.nextMs(next), undefined)
      now = next
    }
    health.arrived(4, now)
    assert.equal(health.wasWrong(4, now), false)
  })

  test('each kind of failure is reported once while nothing arrives, and once a minute while something does', () => {
    const health = new FillHealth(0)
    const isNews = (code: ErrorCode, now: number) => health.isNews(failure(code), now)
    assert.deepEqual(
      [isNews('REGISTRY_RESPONSE', 0), isNews('NO_SPACE', 0), isNews('REGISTRY_RESPONSE', 1)],
      [true, true, false],
    )
    assert.equal(isNews('REGISTRY_RESPONSE', 1e9), false)
    health.arrived(0, 1e9)
    assert.deepEqual([isNews('REGISTRY_RESPONSE', 1e9), isNews('REGISTRY_RESPONSE', 1e9)], [true, false])
    health.arrived(1, 1e9)
    assert.deepEqual(
      [isNews('REGISTRY_RESPONSE', 1e9 + 59_999), isNews('REGISTRY_RESPONSE', 1e9 + 60_000)],
      [false, true],
    )
  })
})
