import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { parseContainerId } from '../metadata/index.ts'
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

test('a format of docker with ports is understood: there are none', () => {
  const { fields } = containerList([])
  assert.ok(fields.some(({ name, isHidden }) => name === 'Ports' && isHidden === true))
})

test('--filter name is a regular expression, as in docker and podman', () => {
  const rows = ['web', 'web-2', 'db', 'my.web'].map((id) => ({
    container: { id: parseContainerId(id), parentId: undefined, createdAtMs: 0, rootfses: [] },
    rootfs: undefined,
    process: undefined,
    partials: [],
  }))
  const choose = (name: string) =>
    chooseRows(rows, { filter: [`name=${name}`] }, containerList(rows)).map(({ container }) => container.id)
  assert.deepEqual(choose('web'), ['web', 'web-2', 'my.web'])
  assert.deepEqual(choose('^web$'), ['web'])
  assert.deepEqual(choose('^(db|web-.*)$'), ['web-2', 'db'])
  assert.throws(() => choose('web['), { code: 'USAGE' })
})
