import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readConfiguration } from 'loamfs'
import { findOtherRights, ownFolders } from './peer.ts'

const ROOT = { userId: 0, groupIds: [0] }
const MEMBER = { userId: 1000, groupIds: [1000, 999] }

test('a command that writes or removes files of a member of the group runs with the rights of that user', () => {
  const isHandedBack = (...names: readonly string[]) => findOtherRights(MEMBER, ROOT, names) !== undefined
  for (const command of ['run', 'cp', 'export', 'unexport', 'save', 'copy', 'index'])
    assert.ok(isHandedBack('loam', command), command)
  for (const command of ['pull', 'images', 'ps', 'tag']) assert.ok(!isHandedBack('loam', command), command)
  assert.ok(isHandedBack('snapshot', 'diff'))
})

test('root in the group of the daemon is served by it', () => {
  assert.equal(findOtherRights(ROOT, ROOT, ['loam', 'save']), undefined)
})

test('the daemon reads the directories of images that its configuration names with its own rights', () => {
  const { values } = readConfiguration({
    flags: {
      root: '/store',
      state: '/state',
      docker_registry: '/srv/mirror/,https://registry.example',
      docker_store_dir: '/agent/docker',
      appc_simple_discovery_uri_prefix: 'file:///srv/aci,https://',
    },
    env: {},
  })
  assert.deepEqual(ownFolders(values), [
    { path: '/store', followsLinks: false },
    { path: '/state', followsLinks: false },
    { path: '/agent/docker', followsLinks: false },
    { path: '/srv/mirror', followsLinks: true },
    { path: '/srv/aci', followsLinks: true },
  ])
})
