import assert from 'node:assert/strict'
import { test } from 'node:test'
import { tokenTimeFault } from './token-times.ts'

/** The claims of Mesos's registry_token_tests: exp and nbf in seconds. */
const jwt = (claims: object) =>
  ['{"alg":"none"}', JSON.stringify(claims), 'sig']
    .map((part) => Buffer.from(part).toString('base64url'))
    .join('.')
const NOW = Date.UTC(2020, 0, 1)
const seconds = NOW / 1000

test('a refused token is reported as expired or not yet valid, and other tokens say nothing', () => {
  assert.match(tokenTimeFault(jwt({ exp: seconds - 1 }), NOW) ?? '', /has expired \(2019-12-31T23:59:59/)
  assert.match(
    tokenTimeFault(jwt({ exp: seconds + 60, nbf: seconds + 5 }), NOW) ?? '',
    /not valid before 2020/,
  )
  for (const token of [
    jwt({ exp: seconds + 60, nbf: seconds - 60 }),
    jwt({}),
    jwt({ exp: 'soon' }),
    jwt({ exp: 1e300 }),
    'opaque',
    'a.b.c',
    '',
  ])
    assert.equal(tokenTimeFault(token, NOW), undefined, token)
})
