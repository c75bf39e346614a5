import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { LONG_TESTS, longestFirst } from './long-tests.ts'
import { OWN_PROCESS } from './test-processes.ts'

test('each test file that is left to npm run verify exists, and each that has its own process', () => {
  const root = fileURLToPath(new URL('..', import.meta.url))
  assert.deepEqual(
    [...LONG_TESTS, ...OWN_PROCESS].filter((path) => !existsSync(root + path)),
    [],
  )
})

test('the longest files begin first, and those that do not take long last', () => {
  const files = ['appc', 'answers', 'user-ids'].map((name) => `packages/loam/test/e2e/${name}.test.ts`)
  const [long, short, longest] = files
  assert.deepEqual(
    longestFirst(files, (file) => file),
    [longest, long, short],
  )
})
