import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { checkNamespace, hostRights, readSeccompProfile } from './host-rights.ts'

const isUsage = (error: unknown) => isLoamError(error, 'USAGE')

test('a network to join has to be an existing namespace', () => {
  checkNamespace('/proc/self/ns/net')
  for (const path of ['/nowhere', '/etc/passwd', '/proc/self', '/dev/null', '/etc/passwd/x'])
    assert.throws(() => checkNamespace(path), isUsage, path)
})

test('a seccomp profile has to be a regular file that can be read, and opening it never waits', () => {
  for (const path of ['/nowhere', '/', '/dev/zero', '/dev/null', '/etc/passwd'])
    assert.throws(() => readSeccompProfile(path, ''), isUsage, path)
})

test('the rights of this process are read from the kernel', () => {
  const { uid, capabilities, kernel, architecture } = hostRights()
  assert.equal(uid, process.geteuid?.())
  assert.ok(capabilities.includes('CAP_CHOWN'))
  assert.match(kernel, /^\d+\.\d+/)
  assert.notEqual(architecture, '')
})
