import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sourceDateMs } from './source-date.ts'

test('SOURCE_DATE_EPOCH is the time of what is created, and anything but a number of seconds is an error', () => {
  const read = (text: string | undefined) => sourceDateMs({ env: { SOURCE_DATE_EPOCH: text } })
  assert.deepEqual(
    [read(undefined), read(''), read('0'), read('1700000000')],
    [undefined, undefined, 0, 1.7e12],
  )
  for (const text of ['yesterday', '-1', '1e9', '1.5', '9999999999999'])
    assert.throws(() => read(text), { code: 'USAGE' })
})
