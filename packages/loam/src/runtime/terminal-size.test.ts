import assert from 'node:assert/strict'
import { test } from 'node:test'
import { consoleOf } from './terminal-size.ts'

test('the size of a terminal is in the configuration of the runtime, which creates the terminal with it', () => {
  assert.deepEqual(consoleOf(true, { columns: 101, rows: 41 }), {
    terminal: true,
    consoleSize: { height: 41, width: 101 },
  })
})

test('a process without a terminal, and a terminal that does not know its size, have none', () => {
  const without = (terminal: boolean) => ({ terminal, consoleSize: undefined })
  assert.deepEqual(consoleOf(false, { columns: 101, rows: 41 }), without(false))
  assert.deepEqual(consoleOf(true, { columns: 0, rows: 0 }), without(true))
  assert.deepEqual(consoleOf(true, undefined), without(true))
})
