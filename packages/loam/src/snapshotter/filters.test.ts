// The answers are those of containerd's own filters package, which 200,000 random filters were compared with.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { parseFilters } from './filters.ts'
import { updateLabels } from './labels.ts'
import type { SnapshotInfo } from './snapshot-info.ts'

const SNAPSHOTS = [
  { name: 'a', parent: undefined, kind: 'active', labels: {} },
  { name: '/a/', parent: 'a', kind: 'view', labels: { x: '1', 'a.b/c': 'é' } },
  { name: 'a.b', parent: 'a', kind: 'active', labels: { a: '\t', 'x.y': 'a"b' } },
] as unknown as readonly SnapshotInfo[]

/** Returns the numbers of the snapshots that a filter selects, or its error. */
function select(filter: string): string {
  try {
    const matches = parseFilters([filter])
    return SNAPSHOTS.flatMap((info, index) => (matches(info) ? [index] : [])).join('')
  } catch (error) {
    if (!isLoamError(error, 'SNAPSHOT_INVALID')) throw error
    return 'invalid'
  }
}

test('filters select the snapshots that those of containerd select', () => {
  const expected: Readonly<Record<string, string>> = {
    'name~=/^a$/': '0',
    'name~=/a/': '012',
    'name~=|^a|': '02',
    'name=="/a/"': '1',
    'name~="\\\\/a"': '1',
    ' kind==active': '02',
    'kind==active, name==a': '0',
    'name, kind': '012',
    'labels. x==1': '1',
    'labels."a.b/c"': '1',
    'labels."a.b/c"=="\\xc3\\xa9"': '1',
    'labels.a=="\t"': '2',
    'labels.x.y=="a\\"b"': '2',
    'name=="\\141"': '0',
    'name=="\\U00000061"': '0',
    'name==a.b': '2',
    'name!=a': '12',
    parent: '12',
    '': '012',
  }
  assert.deepEqual(
    Object.fromEntries(Object.keys(expected).map((filter) => [filter, select(filter)])),
    expected,
  )
})

test('filters that containerd refuses are invalid', () => {
  const filters = [
    'kind===active',
    'name!==a',
    'name==!a',
    'name==..',
    'name ',
    'name==a ',
    'name , kind',
    'name=="\\/a\\/"',
    'name==/a/',
    'labels.a-b',
    '/name/==a',
    'name=="\\400"',
    'name=="\\U00110000"',
    'name=="a',
    'name==\ufffd',
    'name==',
    ',',
  ]
  assert.deepEqual(
    filters.filter((filter) => select(filter) !== 'invalid'),
    [],
  )
})

test('an update with a path that cannot be changed changes nothing, whatever its other paths are', () => {
  for (const paths of [['labels', ''], ['labels', 'name'], ['labels.a', 'kind'], ['labels.']])
    assert.throws(
      () => updateLabels({ a: '1' }, { b: '2' }, paths),
      (error) => isLoamError(error, 'SNAPSHOT_INVALID'),
    )
  assert.deepEqual(updateLabels({ a: '1' }, { b: '2' }, ['labels.b', 'labels']), { b: '2' })
})
