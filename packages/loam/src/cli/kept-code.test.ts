import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

test('compiled code is kept in the package, where no other user can write, whatever the umask is', () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-kept-'))
  try {
    for (const name of ['bin', 'dist']) mkdirSync(join(folder, name))
    const command = join(folder, 'bin/loam.cjs')
    copyFileSync(fileURLToPath(new URL('../../bin/loam.cjs', import.meta.url)), command)
    writeFileSync(join(folder, 'package.json'), '{"version":"1.2.3","type":"module"}')
    writeFileSync(
      join(folder, 'dist/main.js'),
      `import { getCompileCacheDir } from 'node:module'
export const main = (_args, version) => console.log(version, process.umask(), getCompileCacheDir())`,
    )
    const script = `umask 0; exec "${process.execPath}" "${command}" --daemon never images`
    // The tests have a cache of their own.
    const { NODE_COMPILE_CACHE: _cache, ...env } = process.env
    const [version, mask, kept = ''] = execFileSync('sh', ['-c', script], { encoding: 'utf8', env })
      .trim()
      .split(' ')
    assert.deepEqual([version, mask], ['1.2.3', '0'])
    assert.ok(kept.startsWith(`${folder}/`), kept)
    const files = readdirSync(kept).map((name) => join(kept, name))
    assert.ok(files.length > 0)
    for (const path of [join(folder, '.compiled'), kept, ...files])
      assert.equal(statSync(path).mode & 0o022, 0, path)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
