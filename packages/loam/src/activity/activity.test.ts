import assert from 'node:assert/strict'
import { AsyncLocalStorage } from 'node:async_hooks'
import { test } from 'node:test'
import { LoamError } from '../errors/index.ts'
import { Activity, type ActivityEvent } from './index.ts'

/** Events without their times, which differ from run to run. */
const bare = (events: readonly ActivityEvent[]) =>
  events.map(({ timeMs: _time, ...event }) => ('durationMs' in event ? { ...event, durationMs: 0 } : event))

test('an observer gets the start, the parts, the progress and the end of an operation, in the context of its caller', async () => {
  const activity = new Activity()
  const caller = new AsyncLocalStorage<string>()
  const events: ActivityEvent[] = []
  const callers = new Set<unknown>()
  activity.subscribe((event) => {
    events.push(event)
    callers.add(caller.getStore())
  })
  const result = await caller.run('request 7', async () =>
    activity.observe('images.pull', { image: 'debian:12' }, async (span) => {
      const part = span.begin('layer', { index: 0 })
      await new Promise(setImmediate)
      part.end({ state: 'done' })
      span.begin('layer', { index: 1 })
      span.progress({ kind: 'note' })
      span.set({ layers: 2 })
      return 'pulled'
    }),
  )
  assert.equal(result, 'pulled')
  const pull = { id: 1, parentId: undefined, requestId: undefined, operation: 'images.pull' }
  const layers = [2, 3].map((id) => ({ id, parentId: 1, requestId: undefined, operation: 'layer' }))
  const end = { kind: 'end', durationMs: 0, error: undefined }
  assert.deepEqual(bare(events), [
    { ...pull, kind: 'start', attributes: { image: 'debian:12' } },
    { ...layers[0], kind: 'start', attributes: { index: 0 } },
    { ...layers[0], ...end, attributes: { index: 0, state: 'done' } },
    { ...layers[1], kind: 'start', attributes: { index: 1 } },
    { ...pull, kind: 'progress', progress: { kind: 'note' } },
    { ...layers[1], ...end, attributes: { index: 1 } },
    { ...pull, ...end, attributes: { image: 'debian:12', layers: 2 } },
  ])
  assert.deepEqual([...callers], ['request 7'])
})

test('an operation that fails ends with the code of its error, and its caller gets the error', async () => {
  const activity = new Activity()
  const events: ActivityEvent[] = []
  activity.subscribe((event) => events.push(event))
  const failure = new LoamError('IMAGE_NOT_FOUND', 'pull x: no such image')
  const failing = activity.observe('images.pull', {}, async () => Promise.reject(failure))
  await assert.rejects(failing, failure)
  const [, end] = events
  assert.deepEqual(end?.kind === 'end' ? end.error : undefined, {
    code: 'IMAGE_NOT_FOUND',
    kind: 'not_found',
    message: 'pull x: no such image',
  })
})

test('an observer that has unsubscribed gets no events, and an operation without observers knows it', async () => {
  const activity = new Activity()
  const leave = activity.subscribe(() => assert.fail('it has left'))
  leave()
  await activity.observe('images.pull', {}, async (span) => {
    assert.equal(span.isObserved, false)
    span.begin('layer', {}).end()
  })
})
