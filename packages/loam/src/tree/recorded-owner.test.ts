import assert from 'node:assert/strict'
import { test } from 'node:test'
import { recordedOwner, recordOwner } from './recorded-owner.ts'

test('owners are recorded as umoci does it, and read back', () => {
  for (const [uid, gid, hex] of [
    [0, 5, '08ffffffff0f1005'],
    [1000, 0, '08e80710ffffffff0f'],
    [7, 300, '080710ac02'],
    [4294967294, 1, '08feffffff0f1001'],
  ] as const) {
    assert.equal(recordOwner({ uid, gid })[0]?.value.toString('hex'), hex)
    assert.deepEqual(recordedOwner(recordOwner({ uid, gid })), { uid, gid })
  }
  assert.deepEqual(recordOwner({ uid: 0, gid: 0 }), [])
})

test('an invalid record of an owner means root', () => {
  const name = Buffer.from('user.rootlesscontainers')
  const root = { uid: 0, gid: 0 }
  for (const hex of ['', '08', '0880', '08ffffffffff01', '0a00', '18', 'ff', '08ffffffff1f1001'])
    assert.deepEqual(recordedOwner([{ name, value: Buffer.from(hex, 'hex') }]), root, hex)
  assert.deepEqual(
    recordedOwner([{ name: Buffer.from('user.other'), value: Buffer.from('080710ac02', 'hex') }]),
    root,
  )
  assert.deepEqual(recordedOwner([{ name, value: Buffer.from('1005', 'hex') }]), { uid: 0, gid: 5 })
})
