import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { NearHosts } from './near-hosts.ts'

describe('near hosts', () => {
  test('a host is far until it has sent a span quickly, and no other host is near because of it', () => {
    const hosts = new NearHosts()
    assert.equal(hosts.has('a'), false)
    hosts.note('a', 25)
    assert.equal(hosts.has('a'), false)
    hosts.note('a', 3)
    assert.deepEqual([hosts.has('a'), hosts.has('b')], [true, false])
  })

  test('a host whose line gets slow is far after some spans', () => {
    const hosts = new NearHosts()
    hosts.note('a', 3)
    for (let count = 1; count <= 7; count += 1) hosts.note('a', 40)
    assert.equal(hosts.has('a'), true)
    hosts.note('a', 40)
    assert.equal(hosts.has('a'), false)
  })
})
