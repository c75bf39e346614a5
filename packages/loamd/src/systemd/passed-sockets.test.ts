import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isLoamError } from 'loamfs'
import { passedSockets } from './passed-sockets.ts'

const own = { LISTEN_PID: String(process.pid) }

test('passed sockets are recognised by their names, in any order, and a single one is the snapshotter’s', () => {
  const both = { ...own, LISTEN_FDS: '2', LISTEN_FDNAMES: 'api:snapshotter' }
  assert.deepEqual(passedSockets(both), {
    api: { fd: 3, isOwn: false },
    snapshotter: { fd: 4, isOwn: false },
  })
  assert.deepEqual(passedSockets({ ...own, LISTEN_FDS: '1', LISTEN_FDNAMES: 'api' }), {
    api: { fd: 3, isOwn: false },
  })
  assert.deepEqual(passedSockets({ ...own, LISTEN_FDS: '1', LISTEN_FDNAMES: 'loamd.socket' }), {
    snapshotter: { fd: 3, isOwn: false },
  })
  assert.deepEqual(passedSockets({ ...own, LISTEN_FDS: '1' }), {
    snapshotter: { fd: 3, isOwn: false },
  })
})

test('sockets that were passed to another process are not used', () => {
  assert.deepEqual(passedSockets({}), {})
  assert.deepEqual(passedSockets({ LISTEN_PID: '1', LISTEN_FDS: '1' }), {})
  for (const LISTEN_FDS of ['0', '-1', '', 'x']) assert.deepEqual(passedSockets({ ...own, LISTEN_FDS }), {})
})

test('a socket that a daemon before this one created is this one’s own', () => {
  const passed = { ...own, LISTEN_FDS: '2', LISTEN_FDNAMES: 'snapshotter:api', LOAMD_OWN_SOCKETS: 'api' }
  assert.deepEqual(passedSockets(passed), {
    snapshotter: { fd: 3, isOwn: false },
    api: { fd: 4, isOwn: true },
  })
})

test('several sockets with one name, or without a known name, are an error', () => {
  for (const LISTEN_FDNAMES of ['api:api', 'api:loamd.socket', '']) {
    assert.throws(
      () => passedSockets({ ...own, LISTEN_FDS: '2', LISTEN_FDNAMES }),
      (error) => isLoamError(error, 'CONFIG_INVALID'),
      LISTEN_FDNAMES,
    )
  }
})
