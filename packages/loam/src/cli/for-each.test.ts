import assert from 'node:assert/strict'
import { test } from 'node:test'
import { captureHost } from '../../test/support/captured-host.ts'
import { isLoamError, LoamError } from '../errors/index.ts'
import { actOnEach, forEach } from './for-each.ts'
import { Output } from './output.ts'

test('nothing is done to the containers that are left when the command is canceled', async () => {
  const controller = new AbortController()
  const acted: string[] = []
  const { results, failures } = await actOnEach(['a', 'b', 'c'], controller.signal, async (id) => {
    acted.push(id)
    if (id !== 'b') return id
    controller.abort()
    throw new LoamError('CANCELED', 'stop b: canceled')
  })
  assert.deepEqual([acted, results, failures.length], [['a', 'b'], ['a'], 1])
})

test('a command that is canceled between two containers fails, and prints those that it acted on', async () => {
  const controller = new AbortController()
  const host = captureHost('/')
  const output = new Output(host, { json: false, quiet: false })
  const acting = forEach(['a', 'b'], { output, signal: controller.signal }, async () => {
    controller.abort()
  })
  await assert.rejects(acting, (error) => isLoamError(error, 'CANCELED'))
  assert.equal(host.said.stdout, 'a\n')
})

test('several failures are one error with the hint of each', async () => {
  const host = captureHost('/')
  const output = new Output(host, { json: false, quiet: false })
  const { signal } = new AbortController()
  const acting = forEach(['a', 'b'], { output, signal }, async (id) => {
    throw new LoamError('USAGE', `remove ${id}: it runs`, { hint: `Stop ${id}.` })
  })
  await assert.rejects(acting, {
    message: 'remove a: it runs; remove b: it runs',
    hint: 'Stop a. Stop b.',
  })
})
