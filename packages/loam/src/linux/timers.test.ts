import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MAX_TIMER_MS, TimeLimit } from './timers.ts'

test('a time limit fires when its time is over, and never after its scope', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  using limit = new TimeLimit(1000)
  const ended = (() => {
    using inner = new TimeLimit(1000)
    return inner
  })()
  t.mock.timers.tick(999)
  assert.equal(limit.signal.aborted, false)
  t.mock.timers.tick(1)
  assert.deepEqual([limit.isOver, limit.signal.aborted], [true, true])
  assert.equal((limit.signal.reason as Error).name, 'TimeoutError')
  assert.equal(ended.signal.aborted, false)
})

test('a time limit fires for its caller with the reason, which is no end of its time', () => {
  const caller = new AbortController()
  using limit = new TimeLimit(MAX_TIMER_MS * 9, caller.signal)
  const reason = new Error('enough')
  caller.abort(reason)
  assert.deepEqual([limit.signal.reason, limit.isOver], [reason, false])
})
