import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const oxlint = join(root, 'tools/node_modules/.bin/oxlint')

/** Returns how often the rule speaks of each statement, in the body of a method. */
function complaints(statements: readonly string[]): number[] {
  const folder = mkdtempSync(join(tmpdir(), 'loam-lint-'))
  try {
    const config = {
      jsPlugins: [join(root, 'scripts/lint/settled-target.ts')],
      categories: { correctness: 'off' },
      rules: { 'loam/settled-target': 'error' },
    }
    writeFileSync(join(folder, 'config.json'), JSON.stringify(config))
    for (const [index, statement] of statements.entries()) {
      const text = `class X { #column; #names; run() { ${statement} } #add() {} #getOrAdd() {} }\n`
      writeFileSync(join(folder, `x${index}x.ts`), text)
    }
    const args = ['--config', join(folder, 'config.json'), '--format', 'unix', folder]
    const { stdout } = spawnSync(oxlint, args, { encoding: 'utf8' })
    const lines = stdout.split('\n').filter((line) => line.includes('settled-target'))
    return statements.map(
      (_statement, index) => lines.filter((line) => line.includes(`x${index}x.ts`)).length,
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
}

test('a call that may replace a column is refused in the index, and behind the sign, of an assignment to it', {
  skip: existsSync(oxlint) ? false : 'tools are not installed',
}, () => {
  const refused = [
    'this.#column[this.#getOrAdd(name)] = 1',
    'this.#column[this.#getOrAdd(name)] |= 1',
    'this.#column[this.#getOrAdd(name)]++',
    'this.#column[add(name) + 1] = 1',
    'tree.column[tree.add(name)] = 1',
    'this.#column[entry] = this.#add(name)',
    'this.#column[entry] = 1 + this.#names.add(name)',
  ]
  const accepted = [
    'this.#column[entry] = 1',
    'this.#column[entry] = (this.#column[entry] ?? 0) + 1',
    'this.#column[Math.floor(at)] = 1',
    'this.#column[entry] = () => this.#add(name)',
    'const entry = this.#getOrAdd(name); this.#column[entry] = 1',
    'const column = new Uint8Array(8); column[find(name)] = 1',
  ]
  assert.deepEqual(complaints([...refused, ...accepted]), [...refused.map(() => 1), ...accepted.map(() => 0)])
})
