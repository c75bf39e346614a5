import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { isResting, startDetached } from './detached-program.ts'

/** A program that is killed the first time, and then says so. */
const PROGRAM = 'echo started >> "$0/starts"; [ -e "$0/killed" ] && exit 0; touch "$0/killed"; kill -9 $$'

async function inFolder(act: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'loam-detached-'))
  try {
    await act(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

async function startsOf(folder: string): Promise<string> {
  const read = () => (existsSync(join(folder, 'starts')) ? readFileSync(join(folder, 'starts'), 'utf8') : '')
  while (read().split('\n').length < 3) await sleep(10)
  return read()
}

test('a detached program that is killed is started again, and one that ends is not', async () => {
  await inFolder(async (folder) => {
    const options = {
      env: { PATH: process.env['PATH'] ?? '' },
      log: join(folder, 'log'),
      restFile: join(folder, 'rest'),
      hasScope: false,
    }
    await startDetached('sh', ['-c', PROGRAM, folder], options)
    assert.equal(await startsOf(folder), 'started\nstarted\n')
  })
})

test('a detached program runs in a scope of systemd, or without one where systemd gives none', async () => {
  for (const systemdRun of ['echo "$1" > "$HOME/asked"; shift 3; exec "$@"', 'exit 1']) {
    await inFolder(async (folder) => {
      writeFileSync(join(folder, 'systemd-run'), `#!/bin/sh\n${systemdRun}\n`, { mode: 0o755 })
      const env = { PATH: `${folder}:${process.env['PATH']}`, HOME: folder }
      const files = { log: join(folder, 'log'), restFile: join(folder, 'rest') }
      await startDetached('sh', ['-c', PROGRAM, folder], { env, ...files, hasScope: true })
      assert.equal(await startsOf(folder), 'started\nstarted\n')
      const asked = join(folder, 'asked')
      assert.equal(existsSync(asked) && readFileSync(asked, 'utf8') === '--scope\n', systemdRun !== 'exit 1')
    })
  }
})

test('a detached program that fails rests before it is started again', async () => {
  await inFolder(async (folder) => {
    const restFile = join(folder, 'rest')
    const options = {
      env: { PATH: process.env['PATH'] ?? '' },
      log: join(folder, 'log'),
      restFile,
      hasScope: false,
    }
    const failing =
      'echo started >> "$0/starts"; [ -e "$0/failed" ] && exit 0; touch "$0/failed"; kill -SEGV $$'
    await startDetached('sh', ['-c', failing, folder], options)
    while (!isResting(restFile)) await sleep(10)
    assert.equal(readFileSync(join(folder, 'starts'), 'utf8'), 'started\n')
    assert.equal(await startsOf(folder), 'started\nstarted\n')
    assert.equal(isResting(restFile), false)
  })
})
