import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { describe, test } from 'node:test'
import { statusError } from './responses.ts'
import type { Response } from './transport.ts'

const messageFor = async (body: string, type = 'application/json') => {
  const headers = { 'content-type': type }
  const response = {
    statusCode: 500,
    headers,
    body: Readable.from([Buffer.from(body)]),
  } as unknown as Response
  return (await statusError(response, 'get x', { registry: 'r' })).message
}

describe('the words of a registry that refuses', () => {
  test('each error is told by its code and message, whatever stands beside it', async () => {
    const told = async (errors: unknown) => messageFor(JSON.stringify({ errors, more: 1 }))
    const right = { code: 'DENIED', message: 'not yours', detail: null }
    assert.equal(await told([right]), 'get x: the registry answered 500 (DENIED: not yours)')
    assert.equal(
      await told([null, right, 'text', 5, [], {}, { code: 7, message: 'other' }]),
      'get x: the registry answered 500 (DENIED: not yours; other)',
    )
  })

  test('an answer without such errors is told by its status alone', async () => {
    for (const body of ['', '{', 'null', '[]', '{}', '{"errors":null}', '{"errors":{"code":"X"}}', '"text"'])
      assert.equal(await messageFor(body), 'get x: the registry answered 500', body)
    assert.equal(
      await messageFor('{"errors":[{"code":"X"}]}', 'text/html'),
      'get x: the registry answered 500',
    )
  })
})
