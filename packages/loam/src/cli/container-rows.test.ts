import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { containerList } from './container-rows.ts'
import { chooseRows } from './lists.ts'

test('a status or a backend that no container can have is refused, also if there is no container', () => {
  const choose = (filter: string) => chooseRows([], { filter: [filter] }, containerList([]))
  assert.deepEqual([...choose('status=running'), ...choose('backend=copy')], [])
  for (const [wrong, hint] of [
    ['status=runing', 'running'],
    ['backend=zfs', 'erofs'],
  ] as const)
    assert.throws(
      () => choose(wrong),
      (error) => isLoamError(error, 'USAGE') && error.hint?.includes(hint) === true,
    )
  assert.throws(() => choose('before=nosuch'), { code: 'USAGE' })
})
