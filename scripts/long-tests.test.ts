import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { LONG_TESTS } from './long-tests.ts'

test('each test file that is left to npm run verify exists', () => {
  const root = fileURLToPath(new URL('..', import.meta.url))
  assert.deepEqual(
    LONG_TESTS.filter((path) => !existsSync(root + path)),
    [],
  )
})
