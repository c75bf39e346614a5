import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { isLoamError } from '../errors/index.ts'
import { parseStrictJson } from './index.ts'

const MEBIBYTE = 1 << 20

/** The result of a reader without additional rules. */
function parsePlainly(text: string): { value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) }
  } catch {
    return undefined
  }
}

/** The result of the strict reader; `refused` is the reason. */
function parseStrictly(text: string): { value: unknown } | { refused: string } {
  try {
    return { value: parseStrictJson(Buffer.from(text), 'text') }
  } catch (error) {
    if (!isLoamError(error, 'DOCUMENT_INVALID')) throw error
    return { refused: error.message }
  }
}

describe('strict JSON', () => {
  test('any value that JSON.stringify writes is read as JSON.parse reads it', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 20 }), fc.constantFrom(undefined, 2, '\t'), (value, space) => {
        const text = JSON.stringify(value, undefined, space)
        assert.deepEqual(parseStrictly(text), parsePlainly(text))
      }),
    )
  })

  test('strict JSON reads any text as JSON.parse does, and additionally refuses only duplicate keys and deep nesting', () => {
    const piece = fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      '"',
      '\\',
      ':',
      ',',
      ' ',
      '\n',
      '1',
      'a',
      '"a"',
      '"a":',
      '"\\u0061":',
      '"\\\\"',
      'null',
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
        const text = pieces.join('')
        const plain = parsePlainly(text)
        const strict = parseStrictly(text)
        if (plain === undefined) assert.ok('refused' in strict)
        else if ('refused' in strict) assert.match(strict.refused, /occurs twice|nested deeper/)
        else assert.deepEqual(strict, plain)
      }),
      { numRuns: 2000 },
    )
  })

  test('JSON strings of 16 MiB are read, plain, escaped, and as a key', () => {
    const long = 'x'.repeat(16 * MEBIBYTE)
    assert.equal((parseStrictJson(Buffer.from(`["${long}"]`), 'text') as string[])[0]?.length, long.length)
    const escaped = '\\n'.repeat(8 * MEBIBYTE)
    assert.equal(
      (parseStrictJson(Buffer.from(`["${escaped}"]`), 'text') as string[])[0]?.length,
      escaped.length / 2,
    )
    assert.equal(
      Object.keys(parseStrictJson(Buffer.from(`{"${long}":1}`), 'text') as object)[0]?.length,
      long.length,
    )
  })

  test('16 MiB of brackets or of quotes are refused without exhausting the stack', () => {
    for (const text of ['[', '{', '{"a":', '"', '\\', '[{"a":'])
      assert.ok('refused' in parseStrictly(text.repeat((16 * MEBIBYTE) / text.length)))
  })

  test('JSON may nest up to 64 levels, and brackets in strings do not count', () => {
    assert.ok('value' in parseStrictly('['.repeat(64) + ']'.repeat(64)))
    assert.ok('refused' in parseStrictly('['.repeat(65) + ']'.repeat(65)))
    assert.ok('value' in parseStrictly(`["${'['.repeat(1000)}\\"${'{'.repeat(1000)}"]`))
  })

  test('a duplicate key of a JSON object is refused in any spelling, and the same key in two objects is not', () => {
    assert.ok('refused' in parseStrictly('{"a":{"b":[{"c":1,"\\u0063":2}]}}'))
    assert.ok('refused' in parseStrictly('{"__proto__":1,"__proto__":2}'))
    assert.ok('value' in parseStrictly('[{"a":1},{"a":{"a":"{\\"a\\":1,\\"a\\":2}"}}]'))
  })
})
