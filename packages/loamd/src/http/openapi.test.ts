import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { createOpenApi } from './openapi.ts'

test('docs/openapi.json is the description of this API: `npm run openapi` writes it', () => {
  const text = readFileSync(new URL('../../../../docs/openapi.json', import.meta.url), 'utf8')
  assert.deepEqual(JSON.parse(text), JSON.parse(JSON.stringify(createOpenApi())))
})
