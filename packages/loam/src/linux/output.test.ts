import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { closeSync, constants, mkdtempSync, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'node:test'
import { openOutput, writeWhenPossible } from './output.ts'

test('a write to a full pipe leaves the thread to others, and can be canceled', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-output-'))
  const path = join(folder, 'pipe')
  execFileSync('mkfifo', [path])
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  // As the standard output of a command: it blocks.
  const blocking = openSync(path, constants.O_WRONLY)
  try {
    await using output = await openOutput({ kind: 'descriptor', descriptor: blocking }, undefined)
    const canceled = new AbortController()
    const writing = writeWhenPossible(output.descriptor, Buffer.alloc(1 << 20), canceled.signal)
    const failed = assert.rejects(writing, { code: 'CANCELED' })
    await sleep(1)
    canceled.abort()
    await failed
  } finally {
    closeSync(reader)
    closeSync(blocking)
    rmSync(folder, { recursive: true })
  }
})

test('all of a chunk reaches a reader that is slower', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-output-'))
  const path = join(folder, 'pipe')
  execFileSync('mkfifo', [path])
  const child = spawn('sh', ['-c', 'sleep 0.05; wc -c <"$0"', path], { stdio: ['ignore', 'pipe', 'inherit'] })
  try {
    const said = child.stdout.toArray()
    {
      await using output = await openOutput({ kind: 'special', path, isDisk: false }, undefined)
      await writeWhenPossible(output.descriptor, Buffer.alloc(300_000), undefined)
    }
    assert.equal(
      Buffer.concat((await said) as Buffer[])
        .toString()
        .trim(),
      '300000',
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
})
