import assert from 'node:assert/strict'
import { mkdtempDisposableSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { checkTargets, orderMounts } from './mount-order.ts'

const mount = (destination: string, type = 'tmpfs', source = type) => ({
  ...{ destination, type, source },
  options: ['rw'],
})
const targets = (mounts: readonly { readonly destination: string }[]) =>
  mounts.map(({ destination }) => destination)

describe('orderMounts', () => {
  test('puts a directory before what is mounted in it, in the given order otherwise', () => {
    const asked = [mount('/x/y/z'), mount('/b/'), mount('/x//y'), mount('/a')]
    assert.deepEqual(targets(orderMounts([], asked)), ['/b/', '/a', '/x//y', '/x/y/z'])
  })

  test("leaves out Loam's own mount of a file that is mounted anyway", () => {
    assert.deepEqual(
      targets(orderMounts([mount('/etc/hosts', 'bind')], [mount('/etc/hosts', 'bind', '/h')])),
      ['/etc/hosts'],
    )
  })

  test('covers a file of a directory of this machine only if it exists', () => {
    using directory = mkdtempDisposableSync(join(tmpdir(), 'loam-mounts-'))
    writeFileSync(join(directory.path, 'hosts'), '')
    const own = [mount('/etc/hosts', 'bind'), mount('/etc/resolv.conf', 'bind')]
    assert.deepEqual(targets(orderMounts(own, [mount('/etc', 'bind', directory.path)])), [
      '/etc',
      '/etc/hosts',
    ])
    assert.deepEqual(targets(orderMounts(own, [mount('/etc')])), ['/etc', '/etc/hosts', '/etc/resolv.conf'])
  })
})

test('two mounts of one target are refused', () => {
  checkTargets(['/a', '/a/b', 'a', '/'])
  assert.throws(
    () => {
      checkTargets(['/a', '/b', '/a/'])
    },
    (error) => isLoamError(error, 'USAGE'),
  )
})
