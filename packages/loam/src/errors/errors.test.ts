import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { ERRORS, isErrno, isLoamError, LoamError, redact, toLoamError } from './index.ts'

test('docs/errors.md has one section for each code, with its kind, and no other', () => {
  const path = new URL('../../../../docs/errors.md', import.meta.url)
  assert.ok(existsSync(path))
  const sections = [...readFileSync(path, 'utf8').matchAll(/^### ([A-Z_]+) \(([a-z_]+)\)$/gm)].map(
    (match) => [match[1], match[2]],
  )
  assert.deepEqual(Object.fromEntries(sections), { ...ERRORS })
  assert.equal(sections.length, Object.keys(ERRORS).length)
})

test('an error keeps its cause, derives its kind, and crosses a thread', () => {
  const cause = new Error('EIO')
  const error = new LoamError('DIGEST_MISMATCH', 'verify x', { cause, hint: 'h', details: { size: 3 } })
  assert.equal(error.kind, 'data_loss')
  assert.equal(error.cause, cause)
  const plain = error.toPlain()
  assert.deepEqual(LoamError.fromPlain(structuredClone(plain)).toPlain(), plain)
  assert.deepEqual([isLoamError(error, 'DIGEST_MISMATCH'), isLoamError(error, 'SYSTEM')], [true, false])
})

test('secrets and control characters do not get into a message', () => {
  assert.equal(redact('get https://user:pw@host/path?token=abc failed'), 'get https://host/path?… failed')
  assert.equal(redact('Authorization: Bearer abc.def'), 'Authorization: Bearer …')
  assert.equal(redact('a\u001b[31mb\nc'), 'a\\x1b[31mb\\nc')
})

test('system errors say what can be done', () => {
  const make = (code: string) => toLoamError(Object.assign(new Error(code), { code }), 'write x')
  assert.deepEqual(
    ['ENOSPC', 'EDQUOT', 'EROFS', 'EACCES', 'EPERM', 'EIO'].map((code) => make(code).code),
    ['NO_SPACE', 'NO_SPACE', 'READ_ONLY', 'PERMISSION_DENIED', 'PERMISSION_DENIED', 'SYSTEM'],
  )
  assert.ok(make('ENOSPC').hint !== undefined)
  // As Node has it.
  const quota = Object.assign(new Error('UNKNOWN: unknown error, write'), { code: 'UNKNOWN', errno: -122 })
  assert.equal(toLoamError(quota, 'write x').code, 'NO_SPACE')
  assert.ok(isErrno(Object.assign(new Error('x'), { code: 'ENOENT' }), 'ENOENT'))
})
