import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, mock, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { libc, type OutputTarget } from '../linux/index.ts'
import { writeOutput } from './output.ts'

const folder = mkdtempSync(join(tmpdir(), 'loam-output-'))
after(() => {
  rmSync(folder, { recursive: true })
})
const options = { mayReplace: () => true, force: true }
const modeOf = (...path: readonly string[]) => (statSync(join(folder, ...path)).mode & 0o7777).toString(8)

/** Writes like a program that does not care about the mode of its output. */
const makeFile = async (target: OutputTarget) => {
  if (typeof target === 'string') writeFileSync(target, 'secret', { mode: 0o666 })
  return Promise.resolve()
}
const makeFolder = async (target: OutputTarget) => {
  mkdirSync(join(String(target), 'blobs'), { recursive: true })
  writeFileSync(join(String(target), 'blobs', 'layer'), 'secret')
  return Promise.resolve()
}

test('an export is readable by its owner alone whatever the umask, while it is made and afterwards', async () => {
  const mask = process.umask(0)
  try {
    let seen = ''
    await writeOutput(join(folder, 'file'), options, async (target) => {
      await makeFile(target)
      const [unfinished = ''] = readdirSync(folder)
      seen = modeOf(unfinished)
    })
    assert.deepEqual([seen, modeOf('file')], ['700', '600'])
    await writeOutput(join(folder, 'layout'), options, makeFolder)
    const all = [modeOf('layout'), modeOf('layout', 'blobs'), modeOf('layout', 'blobs', 'layer')]
    assert.deepEqual(all, ['700', '700', '600'])
  } finally {
    process.umask(mask)
  }
  assert.deepEqual(readdirSync(folder), ['file', 'layout'])
})

test('an export has the requested permissions, also if an earlier export had others', async () => {
  const mask = process.umask(0o077)
  try {
    await writeOutput(join(folder, 'file'), { ...options, mode: 0o640 }, makeFile)
    await writeOutput(join(folder, 'layout'), { ...options, mode: 0o644 }, makeFolder)
    assert.deepEqual(
      [modeOf('file'), modeOf('layout'), modeOf('layout', 'blobs', 'layer')],
      ['640', '755', '644'],
    )
    await writeOutput(join(folder, 'file'), options, makeFile)
    assert.equal(modeOf('file'), '600')
  } finally {
    process.umask(mask)
  }
  await assert.rejects(writeOutput('/dev/null', { ...options, mode: 0o644 }, makeFile), { code: 'USAGE' })
})

/** Creates a directory of an earlier export that takes a while to remove, so that others see all states of its replacement. */
function makeEarlier(name: string): string {
  const path = join(folder, name)
  mkdirSync(join(path, 'earlier'), { recursive: true })
  for (let index = 0; index < EARLIER_FILES; index += 1)
    writeFileSync(join(path, 'earlier', String(index)), '')
  return path
}
const EARLIER_FILES = 3000
/** Returns which of the two exports a directory contains, and whether it is complete. */
function stateOf(path: string): string {
  if (readdirSync(path).includes('blobs')) return 'new'
  return readdirSync(join(path, 'earlier')).length === EARLIER_FILES ? 'earlier' : 'damaged'
}

test('a directory that an export replaces is complete at each moment: the earlier one, then the new one', async () => {
  const path = makeEarlier('replaced')
  const states = new Set<string>()
  const written = writeOutput(path, options, makeFolder)
  const done = written.then(() => true)
  while (!(await Promise.race([done, nextTurn(false)]))) states.add(stateOf(path))
  assert.deepEqual([[...states].at(-1), stateOf(path)], ['new', 'new'])
  assert.equal(states.has('damaged'), false)
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith('replaced')),
    ['replaced'],
  )
})

test('a directory that an export was to replace is unchanged after a failure', async () => {
  const path = makeEarlier('unchanged')
  const fails = async (target: OutputTarget) => {
    await makeFolder(target)
    throw new Error('full')
  }
  await assert.rejects(writeOutput(path, options, fails), /full/)
  assert.equal(stateOf(path), 'earlier')
  const renameat2 = mock.method(libc(), 'renameat2', () => {
    throw Object.assign(new Error('EIO: i/o error, renameat2'), {
      code: 'EIO',
      errno: -5,
      syscall: 'renameat2',
    })
  })
  await assert.rejects(writeOutput(path, options, makeFolder), /renameat2|input\/output/i)
  renameat2.mock.restore()
  assert.equal(stateOf(path), 'earlier')
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith('unchanged')),
    ['unchanged'],
  )
})

test('an export replaces a directory also on a file system that cannot exchange names', async () => {
  const path = makeEarlier('plain')
  const renameat2 = mock.method(libc(), 'renameat2', () => {
    throw Object.assign(new Error('EINVAL: invalid argument, renameat2'), {
      code: 'EINVAL',
      errno: -22,
      syscall: 'renameat2',
    })
  })
  await writeOutput(path, options, makeFolder)
  renameat2.mock.restore()
  assert.equal(stateOf(path), 'new')
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith('plain')),
    ['plain'],
  )
})
