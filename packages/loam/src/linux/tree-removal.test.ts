import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

test('several callers may remove the same tree at the same time', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-remove-'))
  const tree = join(folder, 'tree')
  for (let index = 0; index < 600; index += 1) {
    mkdirSync(join(tree, `d${index}`, 'below'), { recursive: true })
    writeFileSync(join(tree, `d${index}`, 'below', 'f'), '')
  }
  const script = `import { removeTreeSync } from ${JSON.stringify(import.meta.resolve('./tree-removal.ts'))}
process.stdout.write('ready')
process.stdin.once('data', () => { removeTreeSync(${JSON.stringify(tree)}); process.exit() })`
  const removers = Array.from({ length: 3 }, () =>
    spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] }),
  )
  await Promise.all(removers.map(async ({ stdout }) => once(stdout, 'data')))
  const ends = removers.map(async (remover) => once(remover, 'close'))
  for (const { stdin } of removers) stdin.write('go')
  const statuses = (await Promise.all(ends)).map(([status]) => Number(status))
  assert.deepEqual(statuses, [0, 0, 0])
  assert.equal(existsSync(tree), false)
  rmSync(folder, { recursive: true })
})
