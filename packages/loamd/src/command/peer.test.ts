import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findOtherRights } from './peer.ts'

const ROOT = { userId: 0, groupIds: [0] }
const MEMBER = { userId: 1000, groupIds: [1000, 999] }

test('a command that writes or removes files of a member of the group runs with the rights of that user', () => {
  const isHandedBack = (...args: readonly string[]) => findOtherRights(MEMBER, ROOT, { args }) !== undefined
  for (const command of ['run', 'cp', 'export', 'unexport', 'save', 'copy', 'index'])
    assert.ok(isHandedBack('--quiet', command, 'debian:12'), command)
  for (const command of ['pull', 'images', 'ps', 'tag']) assert.ok(!isHandedBack(command), command)
})

test('root in the group of the daemon is served by it', () => {
  assert.equal(findOtherRights(ROOT, ROOT, { args: ['save', 'debian:12'] }), undefined)
})
