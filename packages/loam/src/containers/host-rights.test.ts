import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { checkNamespace, hostRights, readSeccompProfile } from './host-rights.ts'

const isUsage = (error: unknown) => isLoamError(error, 'USAGE')

test('a network that a container is to join has to be a namespace that is there', () => {
  checkNamespace('/proc/self/ns/net')
  for (const path of ['/nowhere', '/etc/passwd', '/proc/self', '/dev/null', '/etc/passwd/x'])
    assert.throws(() => checkNamespace(path), isUsage, path)
})

test('a profile of system calls is a file that can be read, and nothing that is waited for', () => {
  for (const path of ['/nowhere', '/', '/dev/zero', '/dev/null', '/etc/passwd'])
    assert.throws(() => readSeccompProfile(path), isUsage, path)
})

test('what this process may give is what the kernel says of it', () => {
  const { uid, capabilities, kernel, architecture } = hostRights()
  assert.equal(uid, process.geteuid?.())
  assert.ok(capabilities.includes('CAP_CHOWN'))
  assert.match(kernel, /^\d+\.\d+/)
  assert.notEqual(architecture, '')
})
