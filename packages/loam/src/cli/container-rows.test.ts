import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { containerList } from './container-rows.ts'
import { chooseRows } from './lists.ts'

test('a status that no container can have is refused, also if there is no container', () => {
  const choose = (status: string) => chooseRows([], { filter: [`status=${status}`] }, containerList([]))
  assert.deepEqual(choose('running'), [])
  assert.throws(
    () => choose('runing'),
    (error) => isLoamError(error, 'USAGE') && error.hint?.includes('running') === true,
  )
})
