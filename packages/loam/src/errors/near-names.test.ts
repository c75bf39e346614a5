import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findNear } from './index.ts'

test('a name is near a word that is a slip of the keyboard, or one of its spellings, and no other one', () => {
  const names = ['localhost:5000/busybox:1', 'docker.io/library/debian:12', 'web']
  const spellings = (name: string) => [name, name.replace(/^.*\//, '').replace(/:.*/, '')]
  assert.deepEqual(findNear('busybox', names, spellings), ['localhost:5000/busybox:1'])
  assert.deepEqual(findNear('debain', names, spellings), ['docker.io/library/debian:12'])
  assert.deepEqual(findNear('wbe', names), ['web'])
  assert.deepEqual(findNear('webb', names), ['web'])
  for (const word of ['', 'x', 'app', 'alpine', 'b'.repeat(10_000)])
    assert.deepEqual(findNear(word, names, spellings), [], word)
})

test('at most three names are near, the likeliest first', () => {
  assert.deepEqual(findNear('abcdef', ['abcdxy', 'abcdex', 'abcdef', 'abcdefg', 'bacdef']), [
    'abcdef',
    'abcdex',
    'abcdefg',
  ])
})
