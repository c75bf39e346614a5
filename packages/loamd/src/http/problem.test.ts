import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { ERRORS, type ErrorCode, LoamError } from 'loamfs'
import { toProblem } from './problem.ts'

test('docs/api.md has the HTTP status of each kind of error', () => {
  const text = readFileSync(new URL('../../../../docs/api.md', import.meta.url), 'utf8')
  const documented = [...text.matchAll(/^\| ([a-z_]+) +\| (\d{3}) +\|$/gm)].map(([, kind, status]) => [
    kind,
    Number(status),
  ])
  const problems = (Object.keys(ERRORS) as ErrorCode[]).map((code) => toProblem(new LoamError(code, 'x')))
  const statuses = Object.fromEntries(problems.map(({ kind, status }) => [kind, status]))
  assert.deepEqual(Object.fromEntries(documented), statuses)
})
