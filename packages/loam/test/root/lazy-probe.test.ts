import assert from 'node:assert/strict'
import { existsSync, mkdirSync } from 'node:fs'
import { test } from 'node:test'
import { keepProbe, probeLazy } from '../../src/lazy/index.ts'
import { must, World } from '../support/world.ts'

test('a machine whose kernel and file system let reads wait is found to support lazy pulls, and nothing is left', async () => {
  using world = new World()
  assert.deepEqual(await probeLazy(world.path('probe')), { isSupported: true })
  assert.equal(existsSync(world.path('probe')), false)
})

test('a file system without such reads is named as the reason against lazy pulls', async () => {
  using world = new World()
  mkdirSync(world.path('memory'))
  must('mount', '-t', 'tmpfs', 'none', world.path('memory'))
  assert.deepEqual(await probeLazy(world.path('memory', 'probe')), {
    isSupported: false,
    reason: 'the file system of the store cannot let reads wait',
  })
})

test('a lack of descriptors or space counts for one try; what a kernel cannot is not tried again', async () => {
  using world = new World()
  const missing = await probeLazy(world.path('missing', 'probe'))
  assert.equal(missing.isPassing, true)
  const no = { isSupported: false, reason: 'the kernel cannot' } as const
  let tries = 0
  const results = [missing, no]
  const why = keepProbe(async () => results[tries++] ?? no)
  assert.equal(await why(), missing.isSupported ? undefined : missing.reason)
  assert.equal(await why(), 'the kernel cannot')
  assert.equal(await why(), 'the kernel cannot')
  assert.equal(tries, 2)
})
