import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import * as library from '../../src/index.ts'
import * as internal from '../../src/internal.ts'
import * as testing from '../../src/testing/index.ts'
import { libraryAddress } from '../support/test-tools.ts'

const HOME = fileURLToPath(new URL('../..', import.meta.url))

describe('the package', () => {
  test('the package has the same exports in a checkout as the sources', async () => {
    for (const [file, sources] of [
      ['index.js', library],
      ['internal.js', internal],
      ['testing.js', testing],
    ] as const) {
      const given: unknown = await import(join(HOME, file))
      assert.deepEqual(Object.keys(given as object).toSorted(), Object.keys(sources).toSorted(), file)
      assert.deepEqual({ ...(given as object) }, { ...sources })
    }
  })

  test('the package shows lines of the sources in the stack of an error, with --enable-source-maps', () => {
    const program = `const { parseReference } = await import(${JSON.stringify(libraryAddress())})
      try { parseReference('?') } catch (error) { process.stdout.write(error.stack) }`
    const stack = execFileSync(
      process.execPath,
      ['--enable-source-maps', '--input-type=module', '--eval', program],
      { encoding: 'utf8' },
    )
    assert.match(stack, /at parseReference \(.*\/src\/image\/reference\.ts:\d+:\d+\)/)
  })

  test('the package works for programs of a checkout without a build', () => {
    const folder = mkdtempSync(join(tmpdir(), 'loam-user-'))
    try {
      mkdirSync(join(folder, 'node_modules'))
      symlinkSync(HOME, join(folder, 'node_modules/loamfs'))
      writeFileSync(
        join(folder, 'a.mjs'),
        "import { openLoam } from 'loamfs'\nimport { buildTar } from 'loamfs/testing'\nprocess.stdout.write(`${typeof openLoam} ${typeof buildTar}`)\n",
      )
      assert.equal(
        execFileSync(process.execPath, [join(folder, 'a.mjs')], { encoding: 'utf8' }),
        'function function',
      )
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
