import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { parseContainerId } from './container-id.ts'

test('a container id that is refused says why: its characters, its length, or its parts', () => {
  const part = 'x'.repeat(128)
  for (const id of ['a', 'A9_.+-', part, Array.from({ length: 16 }, () => part).join('/')])
    assert.equal(parseContainerId(id), id)
  const cases: readonly (readonly [string, RegExp])[] = [
    ['', /a part of it is empty/],
    ['a//b', /a part of it is empty/],
    ['/a', /a part of it is empty/],
    ['.a', /an invalid character/],
    ['a b', /an invalid character/],
    ['../a', /an invalid character/],
    [`${part}x`, /a part of it has 129 characters, the limit is 128/],
    [`a/${part}xx/b`, /130 characters/],
    [Array.from({ length: 17 }, () => 'a').join('/'), /it has 17 parts, the limit is 16/],
  ]
  for (const [id, expected] of cases)
    assert.throws(
      () => parseContainerId(id),
      (error) => isLoamError(error, 'ID_INVALID') && expected.test(error.message),
      id,
    )
})
