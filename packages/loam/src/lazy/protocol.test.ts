import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseLazyAnswer } from './protocol.ts'

/** What every version sends. */
const STATUS = {
  pid: 7,
  layers: [{ diffId: 'sha256:0', presentBytes: 1, totalBytes: 2, waiting: 0, failure: null }],
  poisoned: ['/mnt'],
  events: 3,
  misses: 2,
  failedReads: 1,
  bytesOnDemand: 4,
  bytesAhead: 5,
  rssBytes: 6,
}

test('the status of an older handler, which counts neither refused reads nor waits, is read', () => {
  const answer = parseLazyAnswer(JSON.stringify({ kind: 'status', status: STATUS }))
  const added = { refused: 0, waits: { counts: [], sumSeconds: 0 } }
  assert.deepEqual(answer, { kind: 'status', status: { ...STATUS, ...added } })
})

test('fields that a newer handler sends are ignored', () => {
  const layers = STATUS.layers.map((layer) => ({ ...layer, added: 1 }))
  const added = { refused: 1, waits: { counts: [1], sumSeconds: 2 } }
  const answer = { kind: 'status', status: { ...STATUS, ...added, layers, added: 1 }, added: 1 }
  assert.deepEqual(parseLazyAnswer(JSON.stringify(answer)), {
    kind: 'status',
    status: { ...STATUS, ...added },
  })
})
