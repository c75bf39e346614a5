// Words that only one file may contain, so that a change is made in one place.
import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const SRC = join(dirname(fileURLToPath(import.meta.url)), '../packages/loam/src')

/** Lists what a pattern finds in files, but for their comments. */
function find(glob: string, pattern: RegExp, except: readonly string[] = []): string[] {
  return globSync(glob, { cwd: SRC })
    .filter((file) => !file.endsWith('.test.ts') && !except.includes(file))
    .toSorted()
    .flatMap((file) => {
      const code = readFileSync(join(SRC, file), 'utf8').replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '')
      return [...code.matchAll(pattern)].map(([found]) => `${file}: ${found}`)
    })
}

test('metadata/ knows no backend by its name, except in migrations of older tables', () => {
  assert.deepEqual(find('metadata/*.ts', /'(?:erofs|overlay|copy|bind)'/g, ['metadata/schema.ts']), [])
})

test('every INSERT names its columns, so that a new column breaks none', () => {
  const unnamed = /INSERT(?: OR \w+)? INTO \w+\s+(?!\()\S+/g
  assert.deepEqual(find('metadata/*.ts', unnamed, ['metadata/schema.ts']), [])
})

test('a media type is written in image/media-types.ts alone', () => {
  const written = /application\\?\/vnd\.[^'"`]*/g
  assert.deepEqual(find('**/*.ts', written, ['image/media-types.ts']), [])
  assert.deepEqual(find('../../loamd/src/**/*.ts', written), [])
})

test('an error of the system has the name of the errno: those that programs and defects cause have codes of their own', () => {
  const withoutErrno = /new LoamError\(\s*'SYSTEM',(?![\s\S]{0,250}errno:)/g
  assert.deepEqual(find('**/*.ts', withoutErrno), [])
})
