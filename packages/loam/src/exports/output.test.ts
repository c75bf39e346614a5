import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import type { OutputTarget } from '../linux/index.ts'
import { writeOutput } from './output.ts'

const folder = mkdtempSync(join(tmpdir(), 'loam-output-'))
after(() => {
  rmSync(folder, { recursive: true })
})
const options = { mayReplace: () => true, force: true }
const modeOf = (...path: readonly string[]) => (statSync(join(folder, ...path)).mode & 0o7777).toString(8)

/** As a program does that knows nothing of what it writes. */
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

test('an export has the permissions that are asked for, also where an earlier export had others', async () => {
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
