// The handler is killed while readers wait for it; the shell that started it starts it again.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { killHandler } from '../support/kill-handler.ts'

test('readers wait while the handler is killed again and again, and read every byte right', async () => {
  const { kills, wrong, failed } = await killHandler({ kills: 3, files: 40, readers: 4, random: Math.random })
  assert.ok(kills > 0)
  assert.deepEqual([wrong, failed], [[], []])
})
