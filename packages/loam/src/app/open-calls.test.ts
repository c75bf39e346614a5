import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { OpenCalls } from './open-calls.ts'

class Door {
  readonly #steps: string[]
  readonly name = 'door'

  constructor(steps: string[] = []) {
    this.#steps = steps
  }

  async call(_name: string, _options: { signal?: AbortSignal } = {}): Promise<number> {
    this.#steps.push('begin')
    await new Promise((resolve) => setTimeout(resolve, 20))
    this.#steps.push('end')
    return this.#steps.length
  }

  async fail(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 20))
    throw new Error('it failed')
  }

  now(): number {
    return this.#steps.length
  }
}

const isClosed = (error: unknown) => isLoamError(error, 'USAGE') && /the store is closed/.test(String(error))

describe('the calls of an open store', () => {
  test('have their results, their errors and the properties of the object', async () => {
    const door = new OpenCalls().guard(new Door())
    assert.equal(await door.call('x'), 2)
    await assert.rejects(door.fail(), /it failed/)
    assert.deepEqual(
      [door.now(), door.name, door instanceof Door, door.call === door.call],
      [2, 'door', true, true],
    )
  })

  test('are waited for by the end of the store, also those that fail, and later ones are refused', async () => {
    const calls = new OpenCalls()
    const steps: string[] = []
    const door = calls.guard(new Door(steps))
    const results = Promise.allSettled([door.call('x'), door.fail(), door.call('y')])
    await calls.close()
    assert.deepEqual(steps, ['begin', 'begin', 'end', 'end'])
    assert.deepEqual(
      (await results).map(({ status }) => status),
      ['fulfilled', 'rejected', 'fulfilled'],
    )
    await assert.rejects(door.call('z'), isClosed)
    assert.throws(() => door.now(), isClosed)
    await calls.close()
  })

  test('do not begin if the signal of their options has fired', async () => {
    const steps: string[] = []
    const door = new OpenCalls().guard(new Door(steps))
    const reason = new Error('enough')
    await assert.rejects(
      door.call('x', { signal: AbortSignal.abort(reason) }),
      (error) => isLoamError(error, 'CANCELED') && error.cause === reason,
    )
    assert.deepEqual(steps, [])
  })

  test('of the parts of an object are counted like its own', async () => {
    const calls = new OpenCalls()
    const steps: string[] = []
    const whole = calls.guard({ part: new Door(steps), other: new Door(steps) }, ['part'])
    const result = whole.part.call('x')
    await calls.close()
    assert.equal(await result, 2)
    await assert.rejects(whole.part.call('y'), isClosed)
    assert.equal(whole.other.now(), 2)
  })

  test('do not keep the store open for a process that may not be ended', async () => {
    const calls = new OpenCalls()
    const started = {
      wait: async () => new Promise<number>(() => undefined),
      [Symbol.asyncDispose]: async () => Promise.reject(new Error('not permitted')),
    }
    const door = calls.guard({ spawn: async () => Promise.resolve(started) })
    await door.spawn()
    await calls.close()
  })

  test('that have started a process end with it', async () => {
    const calls = new OpenCalls()
    const ended = Promise.withResolvers<number>()
    let isKilled = false
    const started = {
      wait: async () => ended.promise,
      [Symbol.asyncDispose]: async () => {
        isKilled = true
        ended.resolve(137)
        await ended.promise
      },
    }
    const door = calls.guard({ spawn: async () => Promise.resolve(started) })
    assert.equal(await door.spawn(), started)
    await calls.close()
    assert.ok(isKilled)
  })
})
