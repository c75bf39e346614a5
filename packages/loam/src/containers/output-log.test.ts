// The output of detached processes, whose files are replaced when they are full.
import assert from 'node:assert/strict'
import { appendFileSync, linkSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { readOutput } from './output-log.ts'

const folder = mkdtempSync(join(tmpdir(), 'loam-log-'))
after(() => {
  rmSync(folder, { recursive: true })
})

/** Begins a new file, as the monitor does. */
function rotate(log: string): void {
  rmSync(`${log}.1`, { force: true })
  linkSync(log, `${log}.1`)
  writeFileSync(`${log}.new`, '')
  renameSync(`${log}.new`, log)
}

async function read(log: string, tail?: number): Promise<string> {
  const range = { tail, mayGrow: undefined, pollMs: 10, signal: undefined }
  return Buffer.concat(await Array.fromAsync(readOutput(log, 'x', range))).toString()
}

test('an output is read from its older file on, and its last lines from as many files as they are in', async () => {
  const log = join(folder, 'tail.log')
  writeFileSync(log, 'one\ntwo\nthree\n')
  rotate(log)
  appendFileSync(log, 'four\nfive')
  assert.equal(await read(log), 'one\ntwo\nthree\nfour\nfive')
  assert.equal(await read(log, 2), 'four\nfive')
  assert.equal(await read(log, 4), 'two\nthree\nfour\nfive')
  assert.equal(await read(log, 0), '')
  assert.equal(await read(log, 9), 'one\ntwo\nthree\nfour\nfive')
})

test('an output that is linked as its older file is read once', async () => {
  const log = join(folder, 'linked.log')
  writeFileSync(log, 'one\n')
  linkSync(log, `${log}.1`)
  assert.equal(await read(log), 'one\n')
})

test('an output that is followed goes on in the next file, with what was written last to the one before', async () => {
  const log = join(folder, 'follow.log')
  writeFileSync(log, 'a\n')
  let step = 0
  const steps = [
    () => {
      appendFileSync(log, 'b\n')
    },
    () => {
      appendFileSync(log, 'c\n')
      rotate(log)
    },
    () => {
      appendFileSync(log, 'd\n')
      rotate(log)
      appendFileSync(log, 'e\n')
    },
  ]
  const mayGrow = async () => {
    steps[step]?.()
    step += 1
    return step <= steps.length
  }
  const said = await Array.fromAsync(
    readOutput(log, 'x', { tail: undefined, mayGrow, pollMs: 5, signal: undefined }),
  )
  assert.equal(Buffer.concat(said).toString(), 'a\nb\nc\nd\ne\n')
})

test('a reader of an output that waits for more ends with its signal', async () => {
  const log = join(folder, 'stop.log')
  writeFileSync(log, 'a\n')
  const stop = new AbortController()
  const range = { tail: undefined, mayGrow: async () => true, pollMs: 60_000, signal: stop.signal }
  const said: string[] = []
  for await (const chunk of readOutput(log, 'x', range)) {
    said.push(chunk.toString())
    setImmediate(() => {
      stop.abort()
    })
  }
  assert.deepEqual(said, ['a\n'])
})
