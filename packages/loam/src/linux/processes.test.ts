import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { programFailed, runProgram } from './processes.ts'

const env = { PATH: '/usr/bin:/bin' }

test('a program that is not installed is PROGRAM_FAILED with its name', async () => {
  await assert.rejects(runProgram('/nowhere/mke2fs', [], { env }), (error) => {
    assert.ok(isLoamError(error, 'PROGRAM_FAILED'))
    assert.deepEqual(error.details, { program: '/nowhere/mke2fs' })
    return true
  })
})

test('a program that takes too long is killed, and is PROGRAM_FAILED with the signal', async () => {
  await assert.rejects(runProgram('sleep', ['10'], { env, timeoutMs: 50 }), (error) => {
    assert.ok(isLoamError(error, 'PROGRAM_FAILED'))
    assert.deepEqual(error.details, { program: 'sleep', signal: 'SIGKILL' })
    return true
  })
})

test('the error of a program that failed has its name, its status and the last lines of its output', async () => {
  const script = 'for i in 1 2 3 4 5 6 7; do echo "line $i" >&2; done; exit 3'
  const result = await runProgram('/bin/sh', ['-c', script], { env })
  const { code, kind, message, details } = programFailed('export as ext4', '/bin/sh', result)
  assert.deepEqual(
    { code, kind, message, details },
    {
      code: 'PROGRAM_FAILED',
      kind: 'internal',
      message: 'export as ext4: sh ended with status 3: line 3; line 4; line 5; line 6; line 7',
      details: { program: 'sh', status: 3 },
    },
  )
})
