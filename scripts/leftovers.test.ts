import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { TierRun } from './leftovers.ts'

test('files, mounts and processes that a run of tests leaves are reported, and nothing of others', async () => {
  let folder = ''
  {
    using run = new TierRun()
    using other = new TierRun()
    folder = run.folder
    assert.deepEqual(await run.find(), [])
    writeFileSync(join(run.folder, 'forgotten'), '')
    mkdirSync(join(run.folder, 'world', 'state'), { recursive: true })
    const mount = (path: string) => `36 35 98:0 / ${path} rw - ext4 x rw\n`
    writeFileSync(run.newMountsFile(), mount(`${run.folder}/mnt`) + mount('/elsewhere'))
    writeFileSync(run.newMountsFile(), mount(`${run.folder}/other`))
    const child = spawn('sleep', ['60'], { env: run.env, stdio: 'ignore' })
    const own = spawn('sleep', ['60'], { env: other.env, stdio: 'ignore' })
    try {
      assert.deepEqual(await run.find(), [
        `mount ${run.folder}/mnt`,
        `mount ${run.folder}/other`,
        `file ${join(run.folder, 'forgotten')}`,
        `file ${join(run.folder, 'world')}, in it 1: state`,
        `process ${child.pid}: sleep 60 `,
      ])
    } finally {
      child.kill()
      own.kill()
    }
  }
  assert.equal(existsSync(folder), false)
})
