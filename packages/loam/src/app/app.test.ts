import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import { readConfiguration, SETTING_NAMES } from './index.ts'

test('docs/configuration.md has one row for each setting, and no other', () => {
  const text = readFileSync(new URL('../../../../docs/configuration.md', import.meta.url), 'utf8')
  const rows = [...text.matchAll(/^\| `([a-z_]+)` +\|/gm)].map((match) => match[1])
  assert.deepEqual(rows, SETTING_NAMES)
})

test('a file with an unknown or wrong setting, or that is no TOML, is refused by its name', () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-config-'))
  try {
    const file = join(folder, 'config.toml')
    for (const text of [
      'colour = "red"',
      'registry_tries = 0',
      'docker_stall_timeout = "soon"',
      'root = ',
      'certs_dirs = [1]',
    ]) {
      writeFileSync(file, text)
      assert.throws(
        () => readConfiguration({ file }),
        (error) => isLoamError(error, 'CONFIG_INVALID') && error.message.includes(file),
      )
    }
    assert.throws(
      () => readConfiguration({ file: join(folder, 'nothing') }),
      (error) => isLoamError(error),
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('docs/mesos.md names only tests that there are, and one for each test of Mesos', () => {
  const text = readFileSync(new URL('../../../../docs/mesos.md', import.meta.url), 'utf8')
  const named = [...text.matchAll(/`((?:[a-z0-9]+)\/[a-z0-9-]+)`: ([^;|)]+)/g)]
  assert.ok(named.length > 150, `only ${named.length}`)
  for (const [, file = '', words = ''] of named) {
    const title = words.replace(/\.?\s*$/, '').replace(/ \([^)]*$/, '')
    const candidates = [`../${file}.ts`, `../${file}.test.ts`, `../../test/${file}.test.ts`]
    const path = candidates.map((name) => new URL(name, import.meta.url)).find((url) => existsSync(url))
    assert.ok(path !== undefined, `docs/mesos.md names ${file}`)
    const titles = [
      ...readFileSync(path, 'utf8').matchAll(
        /(?:test|check|describe|conformance)\(\s*(?:[^'"`(]+ \? )?(['"`])((?:\\.|(?!\1).)*)\1(?:[\s:]+(['"`])((?:(?!\3).)*)\3)?/gis,
      ),
    ].flatMap((match) => [match[2] ?? '', match[4] ?? ''])
    assert.ok(
      titles.some((candidate) => candidate.startsWith(title)),
      `docs/mesos.md: ${file} has no test ${JSON.stringify(title)}`,
    )
  }
  const rows = text
    .slice(text.indexOf('## Tests of Mesos'))
    .split('\n')
    .filter((line) => /^\| [^-t]/.test(line))
  assert.ok(rows.length > 50)
  for (const row of rows) assert.match(row, /`[a-z0-9]+\/[a-z0-9-]+`|none:/)
})
