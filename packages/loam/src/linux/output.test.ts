import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'node:test'
import { findOutput, openOutput, writeWhenPossible } from './output.ts'

const special = (path: string) => ({ kind: 'special', path, isDisk: false, stats: statSync(path) }) as const

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
      await using output = await openOutput(special(path), undefined)
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

test('no link that another process may have put somewhere leads an output to a device, a pipe or a file of this process', () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-output-'))
  const fd = openSync(join(folder, 'database'), 'w')
  const linkTo = (target: string) => {
    const path = join(folder, `link-${target.replaceAll('/', '-')}`)
    symlinkSync(target, path)
    return findOutput(path, '')
  }
  try {
    execFileSync('mkfifo', [join(folder, 'pipe')])
    for (const target of ['/dev/null', join(folder, 'pipe'), `/proc/self/fd/${fd}`, join(folder, 'database')])
      assert.equal(linkTo(target).kind, 'file', target)
    assert.deepEqual(linkTo('/dev/stdout'), { kind: 'descriptor', descriptor: 1 })
    assert.deepEqual(findOutput(`/dev/fd/${fd}`, ''), { kind: 'descriptor', descriptor: fd })
    assert.equal(findOutput('/dev/null', '').kind, 'special')
    assert.equal(findOutput(join(folder, 'pipe'), '').kind, 'special')
  } finally {
    closeSync(fd)
    rmSync(folder, { recursive: true })
  }
})

test('a file that takes the place of a pipe is not written to', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-output-'))
  const [path, victim] = [join(folder, 'pipe'), join(folder, 'victim')]
  try {
    execFileSync('mkfifo', [path])
    writeFileSync(victim, 'precious')
    const found = special(path)
    renameSync(path, join(folder, 'moved'))
    symlinkSync(victim, path)
    await assert.rejects(openOutput(found, undefined), { code: 'OUTPUT_EXISTS' })
    assert.equal(readFileSync(victim, 'utf8'), 'precious')
  } finally {
    rmSync(folder, { recursive: true })
  }
})
