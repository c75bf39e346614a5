import assert from 'node:assert/strict'
import { test } from 'node:test'
import { shortenNames, withoutDigest } from './name-pin.ts'

const [a, b] = [`x.test/i:1@sha256:${'a'.repeat(64)}`, `x.test/i:1@sha256:${'b'.repeat(64)}`]
const tag = 'x.test/i:1'

test('a shortened name belongs to the image that was given it, else to the only one that would have it', () => {
  const shorten = (...claims: readonly (readonly [owner: string, name: string])[]) =>
    shortenNames(
      claims.map(([owner, name]) => ({ owner, name })),
      ({ name }) => withoutDigest(name),
    )
  assert.deepEqual(shorten(['1', a], ['2', 'x.test/j:1']), [tag, 'x.test/j:1'])
  assert.deepEqual(shorten(['1', a], ['2', b]), [undefined, undefined])
  assert.deepEqual(shorten(['1', a], ['1', b]), [tag, tag])
  assert.deepEqual(shorten(['1', a], ['2', tag]), [undefined, tag])
  assert.deepEqual(shorten(['1', tag], ['2', b], ['1', a]), [tag, undefined, tag])
  assert.deepEqual(shorten(['1', `x.test/i@sha256:${'a'.repeat(64)}`]), [undefined])
  assert.deepEqual(shorten(['1', tag], ['2', tag]), [undefined, tag])
})
