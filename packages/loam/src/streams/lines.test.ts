import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { readLines } from './lines.ts'

const limits = {
  maxBytes: 8,
  tooLong: () => new RangeError('too long'),
  notText: () => new TypeError('not text'),
  isEndOptional: true,
}

async function linesOf(chunks: readonly Uint8Array[], isEndOptional = true): Promise<string[]> {
  const stream = (async function* () {
    yield* chunks
  })()
  return Array.fromAsync(readLines(stream, { ...limits, isEndOptional }))
}

test('lines are those of the whole stream, however it is cut, and the last one may be without an end or be left out', async () => {
  const line = fc.string({ maxLength: 2, unit: 'binary' }).filter((text) => !text.includes('\n'))
  await fc.assert(
    fc.asyncProperty(fc.array(line), line, fc.integer({ min: 1, max: 5 }), async (lines, rest, step) => {
      const bytes = Buffer.from([...lines.map((text) => `${text}\n`), rest].join(''))
      const chunks = Array.from({ length: Math.ceil(bytes.length / step) }, (_value, index) =>
        bytes.subarray(index * step, (index + 1) * step),
      )
      const whole = bytes.toString('utf8').split('\n')
      const last = whole.pop() ?? ''
      assert.deepEqual(await linesOf(chunks), last === '' ? whole : [...whole, last])
      assert.deepEqual(await linesOf(chunks, false), whole)
    }),
  )
})

test('a line that is not UTF-8 is an error, and a character may be cut anywhere', async () => {
  await assert.rejects(linesOf([Buffer.from('a\n'), Buffer.from([0xe9, 0x0a])]), TypeError)
  await assert.rejects(linesOf([Buffer.from([0xe9])]), TypeError)
  assert.deepEqual(await linesOf([...Buffer.from('é€\n')].map((byte) => Buffer.from([byte]))), ['é€'])
})

test('a line that is longer than its limit is an error, in one chunk or in many', async () => {
  const long = Buffer.from('123456789\n')
  await assert.rejects(linesOf([long]), RangeError)
  await assert.rejects(linesOf([...long].map((byte) => Buffer.from([byte]))), RangeError)
  assert.deepEqual(await linesOf([Buffer.from('12345678\n')]), ['12345678'])
})
