import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isLoamError } from 'loamfs'
import { credentialsOfSecrets } from './secrets.ts'
import { podTokensOf, TOKENS } from './pod-tokens.ts'

const tokens = (token: string) =>
  JSON.stringify({ aud: { token, expirationTimestamp: '2030-01-01T00:00:00Z' }, '': { token: 'own' } })

test('the tokens of a pod are read from the secrets first, and else from the attributes', () => {
  const both = new Map([
    ['aud', 'one'],
    ['', 'own'],
  ])
  assert.deepEqual(podTokensOf({ [TOKENS]: tokens('one') }, {}), both)
  const secrets = { [TOKENS]: tokens('one') }
  assert.deepEqual(podTokensOf({ [TOKENS]: tokens('two') }, secrets), both)
  assert.equal(podTokensOf({}, {}), undefined)
  assert.equal(podTokensOf({ [TOKENS]: '' }, {}), undefined)
  // They are no credentials of a registry.
  assert.equal(credentialsOfSecrets(secrets), undefined)
})

test('tokens of another form are an error that does not quote them', () => {
  for (const text of [
    '{"aud": {"token": "geheim',
    '[]',
    '"geheim"',
    '{"aud": "geheim"}',
    '{"aud": {"token": 5551234}}',
  ])
    assert.throws(
      () => podTokensOf({ [TOKENS]: text }, {}),
      (error) => isLoamError(error, 'CREDENTIALS_INVALID') && !/geheim|5551234/.test(error.message),
      text,
    )
})
