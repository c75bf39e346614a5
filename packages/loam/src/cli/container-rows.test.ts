import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { parseContainerId } from '../metadata/index.ts'
import { containerList } from './container-rows.ts'
import { chooseRows } from './lists.ts'

test('a status or a backend that no container can have is refused, also if there is no container', async () => {
  const choose = async (filter: string) => chooseRows([], { filter: [filter] }, containerList([]))
  assert.deepEqual([...(await choose('status=running')), ...(await choose('backend=copy'))], [])
  for (const [wrong, hint] of [
    ['status=runing', 'running'],
    ['backend=zfs', 'erofs'],
  ] as const)
    await assert.rejects(
      choose(wrong),
      (error) => isLoamError(error, 'USAGE') && error.hint?.includes(hint) === true,
    )
  await assert.rejects(choose('before=nosuch'), { code: 'CONTAINER_NOT_FOUND' })
})

test('a format of docker with ports is understood: there are none', () => {
  const { fields } = containerList([])
  assert.ok(fields.some(({ name, isHidden }) => name === 'Ports' && isHidden === true))
})

test('--filter name is a regular expression, as in docker and podman', async () => {
  const rows = ['web', 'web-2', 'db', 'my.web'].map((id) => ({
    container: { id: parseContainerId(id), parentId: undefined, createdAtMs: 0, rootfses: [] },
    rootfs: undefined,
    process: undefined,
    partials: [],
  }))
  const choose = async (name: string) => {
    const chosen = await chooseRows(rows, { filter: [`name=${name}`] }, containerList(rows))
    return chosen.map(({ container }) => container.id)
  }
  assert.deepEqual(await choose('web'), ['web', 'web-2', 'my.web'])
  assert.deepEqual(await choose('^web$'), ['web'])
  assert.deepEqual(await choose('^(db|web-.*)$'), ['web-2', 'db'])
  await assert.rejects(choose('web['), { code: 'USAGE' })
})
