import assert from 'node:assert/strict'
import { test } from 'node:test'
import { plainEnvironment, toolEnvironment } from './environment.ts'
import { runForeground, runProgram } from './processes.ts'

test('the environment of another program has plain variables and those that are named, and no others', () => {
  const env = {
    PATH: '/bin',
    HOME: '/root',
    LC_TIME: 'C',
    AWS_PROFILE: 'a',
    TOKEN: 'secret',
    LOAM_DOCKER_CONFIG: 'secret',
    https_proxy: 'http://u:secret@proxy',
    XLC_A: 'secret',
  }
  assert.deepEqual(plainEnvironment(env), { PATH: '/bin', HOME: '/root', LC_TIME: 'C' })
  assert.deepEqual(plainEnvironment(env, ['AWS_*', 'https_proxy']), {
    PATH: '/bin',
    HOME: '/root',
    LC_TIME: 'C',
    AWS_PROFILE: 'a',
    https_proxy: 'http://u:secret@proxy',
  })
  assert.deepEqual(plainEnvironment({}), { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' })
})

test('a program that Loam runs sees nothing of the environment of its process', async () => {
  process.env['LOAM_TEST_SECRET'] = 'secret'
  try {
    const env = toolEnvironment('/usr/bin:/bin')
    const { stdout } = await runProgram('env', [], { env })
    assert.deepEqual(stdout.trim().split('\n').toSorted(), ['LC_ALL=C', 'PATH=/usr/bin:/bin'])
    const script = 'test -z "$LOAM_TEST_SECRET" && test "$LC_ALL" = C'
    assert.equal(await runForeground('/bin/sh', ['-c', script], { env }), 0)
  } finally {
    delete process.env['LOAM_TEST_SECRET']
  }
})
