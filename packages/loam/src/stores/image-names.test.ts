import assert from 'node:assert/strict'
import { test } from 'node:test'
import { digestOf, storedReference } from '../image/index.ts'
import type { ImageSource } from '../sources/index.ts'
import { namesFor } from './image-names.ts'

test('an image gets each of its own names once, and at most a thousand', () => {
  const image = { targetDigest: digestOf(Buffer.from('x')), from: [], pinNote: undefined }
  const namesOf = (aliases: readonly string[]) => {
    const source: Pick<ImageSource, 'name' | 'aliases'> = {
      name: storedReference('a.test/own:1'),
      aliases: aliases.map(storedReference),
    }
    return namesFor(source as ImageSource, image, [])
  }
  assert.deepEqual(
    namesOf(['a.test/b:1', 'a.test/own:1', 'a.test/b:1']).names.map(({ reference }) => reference),
    ['a.test/own:1', 'a.test/b:1'],
  )
  const { names, notes } = namesOf(Array.from({ length: 5000 }, (_, index) => `a.test/b:${index}`))
  assert.equal(names.length, 1001)
  assert.match(notes.join(), /of the 5000 names given in the image, the first 1000 are kept/)
})
