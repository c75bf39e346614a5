import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'

test('an action that fails runs at its next time again, and the same failure in a row is reported once', () => {
  const script = `
    import { runPeriodically } from ${JSON.stringify(new URL('./periodic.ts', import.meta.url).href)}
    let runs = 0
    runPeriodically('look', 1, () => {
      runs += 1
      if (runs === 8) process.exit(3)
      if (runs !== 4) throw new Error(runs < 6 ? 'first' : 'second')
    })
    setTimeout(() => {}, 60_000)`
  const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
  })
  assert.equal(status, 3)
  const messages = stderr
    .trim()
    .split('\n')
    .map((line) => line.replace(/^\S+ /, ''))
  assert.deepEqual(
    messages.map((message) => /first|second/.exec(message)?.[0]),
    ['first', 'first', 'second'],
  )
})
