import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Run, Scheduler, type Slots } from './scheduler.ts'

const ONE: Slots = { demand: 1, ahead: 1 }

function withLayers(slots: Slots, ...counts: readonly number[]): Scheduler {
  const scheduler = new Scheduler(slots)
  for (const [index, count] of counts.entries())
    scheduler.addLayer('abc'[index] ?? '', 'host', new Uint8Array(count))
  return scheduler
}

function show(run: Run | undefined): string {
  return run === undefined ? 'nothing' : `${run.reason} ${run.layer} ${run.from}-${run.to}`
}

/** Runs that end before the next one begins. */
function runs(scheduler: Scheduler, count: number): string[] {
  return Array.from({ length: count }, () => {
    const run = scheduler.next(true)
    if (run !== undefined) scheduler.end(run)
    return show(run)
  })
}

test('a span that a reader waits for is fetched before the profile, and the profile before the background', () => {
  const scheduler = withLayers(ONE, 20)
  scheduler.expect('a', [5, 6, 2])
  scheduler.want('a', 10)
  assert.deepEqual(runs(scheduler, 5), [
    'demand a 10-11',
    'profile a 5-7',
    'profile a 2-3',
    'background a 11-19',
    'background a 19-20',
  ])
})

test('the background follows the last demand and comes around', () => {
  const scheduler = withLayers(ONE, 4, 12)
  scheduler.want('b', 6)
  assert.deepEqual(runs(scheduler, 5), [
    'demand b 6-7',
    'background b 7-12',
    'background b 0-6',
    'background a 0-4',
    'nothing',
  ])
})

test('a reader that goes on where the last fetch ended gets twice as many spans each time', () => {
  const scheduler = withLayers(ONE, 64)
  const sizes = [0, 1, 3, 7, 15, 23].map((span) => {
    scheduler.want('a', span)
    const run = scheduler.next(true)
    assert.ok(run !== undefined)
    scheduler.end(run)
    return run.to - run.from
  })
  assert.deepEqual(sizes, [1, 2, 4, 8, 8, 8])
})

test('adjacent spans that readers wait for are one run', () => {
  const scheduler = withLayers(ONE, 64)
  for (const span of [30, 31, 32, 40]) scheduler.want('a', span)
  assert.deepEqual(runs(scheduler, 2), ['demand a 30-33', 'demand a 40-41'])
})

test('the reader that has waited longest is served first, whatever its layer', () => {
  const scheduler = withLayers(ONE, 9, 9)
  scheduler.want('b', 4)
  scheduler.want('a', 2)
  scheduler.want('b', 7)
  assert.deepEqual(runs(scheduler, 3), ['demand b 4-5', 'demand a 2-3', 'demand b 7-8'])
})

test('what is fetched ahead uses no slot of demand, and demand none of these', () => {
  const scheduler = withLayers({ demand: 1, ahead: 2 }, 64)
  assert.deepEqual(
    [show(scheduler.next(true)), show(scheduler.next(true)), show(scheduler.next(true))],
    ['background a 0-8', 'background a 8-16', 'nothing'],
  )
  scheduler.want('a', 50)
  const run = scheduler.next(true)
  assert.equal(show(run), 'demand a 50-51')
  scheduler.want('a', 60)
  assert.equal(show(scheduler.next(true)), 'nothing', 'its slot is in use')
  scheduler.end({ reason: 'demand', host: 'host' })
  assert.equal(show(scheduler.next(true)), 'demand a 60-61')
})

test('nothing is fetched ahead while that is not allowed', () => {
  const scheduler = withLayers(ONE, 64)
  scheduler.expect('a', [3])
  assert.equal(show(scheduler.next(false)), 'nothing')
  scheduler.want('a', 50)
  assert.equal(show(scheduler.next(false)), 'demand a 50-51')
  assert.equal(show(scheduler.next(true)), 'profile a 3-4')
})

test('a run is a jump unless it begins where the last one on demand has ended', () => {
  const scheduler = withLayers(ONE, 64)
  const jumps = [5, 6, 9].map((span) => {
    scheduler.want('a', span)
    const run = scheduler.next(true)
    assert.ok(run !== undefined)
    scheduler.end(run)
    return run.isJump
  })
  assert.deepEqual(jumps, [true, false, true])
})

test('a span that did not arrive is taken again, and on demand only if a reader wants it again', () => {
  const scheduler = withLayers(ONE, 2)
  scheduler.want('a', 1)
  assert.deepEqual(runs(scheduler, 2), ['demand a 1-2', 'background a 0-1'])
  scheduler.lose('a', 1)
  assert.deepEqual(runs(scheduler, 1), ['background a 1-2'])
  scheduler.lose('a', 1)
  scheduler.want('a', 1)
  assert.deepEqual(runs(scheduler, 2), ['demand a 1-2', 'nothing'])
})

test('a layer that somebody waits for as a whole is filled before the others', () => {
  const scheduler = withLayers(ONE, 4, 4)
  scheduler.raise('b', 1)
  assert.deepEqual(runs(scheduler, 2), ['background b 0-4', 'background a 0-4'])
})

test('nothing of a paused layer is fetched, and what was wanted meanwhile is fetched afterwards', () => {
  const scheduler = withLayers(ONE, 4)
  scheduler.pause('a', true)
  scheduler.want('a', 2)
  scheduler.expect('a', [1])
  assert.deepEqual(runs(scheduler, 1), ['nothing'])
  scheduler.pause('a', false)
  assert.deepEqual(runs(scheduler, 3), ['demand a 2-3', 'profile a 1-2', 'background a 3-4'])
})

test('a layer is planned without the spans that are here, and not at all once it is removed', () => {
  const scheduler = new Scheduler(ONE)
  scheduler.addLayer('a', 'host', Uint8Array.of(1, 0, 1, 0))
  scheduler.want('a', 0)
  assert.deepEqual(runs(scheduler, 1), ['background a 1-2'])
  scheduler.removeLayer('a')
  scheduler.want('a', 3)
  scheduler.lose('a', 1)
  assert.deepEqual(runs(scheduler, 1), ['nothing'])
})

test('all open spans of a layer can be taken for one run in the order of the stream', () => {
  const scheduler = new Scheduler(ONE)
  scheduler.addLayer('a', 'host', Uint8Array.of(0, 1, 0))
  scheduler.want('a', 2)
  assert.deepEqual(scheduler.takeAll('a'), [0, 2])
  assert.deepEqual(runs(scheduler, 1), ['nothing'])
})

test('runs of a host that does not answer take no slots of another host', () => {
  const scheduler = new Scheduler(ONE)
  scheduler.addLayer('a', 'silent', new Uint8Array(4))
  scheduler.addLayer('b', 'other', new Uint8Array(4))
  scheduler.want('a', 0)
  scheduler.want('a', 2)
  assert.equal(show(scheduler.next(true)), 'demand a 0-1')
  assert.equal(show(scheduler.next(true)), 'background a 1-4')
  scheduler.want('b', 1)
  assert.equal(show(scheduler.next(true)), 'demand b 1-2')
  assert.equal(show(scheduler.next(true)), 'background b 2-4')
})
