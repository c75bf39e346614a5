import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
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

test('numbers of any length in tags are compared as numbers', () => {
  const digits = fc.stringMatching(/^\d{1,60}$/)
  fc.assert(
    fc.property(digits, digits, fc.constantFrom('', 'v', 'main-'), (first, second, before) => {
      const [a, b] = [versionKey(`${before}${first}`), versionKey(`${before}${second}`)]
      assert.equal(
        Math.sign(Number(a > b) - Number(a < b)),
        Number(BigInt(first) > BigInt(second)) - Number(BigInt(first) < BigInt(second)),
      )
    }),
  )
})

test('the order of versions is that of their numbers padded to 20 digits', () => {
  const padded = (key: string) =>
    key.replaceAll(/\d{3}(\d+)/g, (_, digits: string) => digits.padStart(20, '0'))
  const tag = fc.array(
    fc.constantFrom('0', '1', '9', '10', '007', '2'.repeat(20), '.', '-', '_', 'v', 'a', 'rc', 'Z'),
    {
      minLength: 1,
      maxLength: 8,
    },
  )
  fc.assert(
    fc.property(tag, tag, (first, second) => {
      // The first digit of a key says whether it is a version.
      const [a, b] = [first, second].map((parts) => versionKey(parts.join('').replaceAll(/\d{21,}/g, '5')))
      assert.ok(a !== undefined && b !== undefined)
      const [c, d] = [a, b].map((key) => `${key[0]}${padded(key.slice(1))}`)
      assert.ok(c !== undefined && d !== undefined)
      assert.equal(Number(a > b) - Number(a < b), Number(c > d) - Number(c < d))
    }),
  )
})

test('the key of a tag is at most four times as long as the tag', () => {
  fc.assert(
    fc.property(fc.stringMatching(/^\w[\w.-]{0,127}$/), (tag) => {
      assert.ok(versionKey(tag).length <= 4 * tag.length + 2)
    }),
  )
})
