import assert from 'node:assert/strict'
import { test } from 'node:test'
import { versionKey } from './tags.ts'

test('tags in the order of their versions: words first, and a version behind its release candidates', () => {
  const ordered = (tags: string) =>
    tags
      .split(' ')
      .map((tag) => ({ tag, key: versionKey(tag) }))
      .toSorted((a, b) => (a.key < b.key ? -1 : 1))
      .map(({ tag }) => tag)
      .join(' ')
  for (const order of [
    'edge latest 1.9 1.10-rc1 1.10 1.10.0 v2.0',
    '3f2a9c1 main-5 v1 2-beta.2 2-beta.10 2-rc.1 2-rc.1-slim 2 2-slim 2.0.1 10',
    '3.13.9 3.14.0a2 3.14.0a10 3.14.0b1 3.14.0rc1 3.14.0 3.14.0-alpine',
    'nightly 12 12-slim 12.1 20250102 20250110',
  ])
    assert.equal(ordered(order.split(' ').toReversed().join(' ')), order)
})
