import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findPackageProblems } from './check-packages.ts'

const SOUND: Readonly<Record<string, string>> = {
  'package.json': '{}',
  'bin/loam.cjs': '',
  'dist/index.js': '',
  'dist/index.js.map': '{"sourcesContent":["text"]}',
  'dist/index.d.ts': 'export { A } from "./shared-1a.js"',
  'dist/shared-1a.d.ts': 'import { B } from "node:fs"',
}

const problemsOf = (files: Readonly<Record<string, string>>) =>
  findPackageProblems(Object.keys(files), ['testing.js'], (file) => files[file] ?? '')

test('a package of bundles, their maps and rolled-up types has no problem', () => {
  assert.deepEqual(problemsOf({ ...SOUND, 'testing.js': '' }), [])
})

test('a declaration of an internal module in a package is a problem', () => {
  assert.deepEqual(problemsOf({ ...SOUND, 'dist/types/app/loam.d.ts': '' }), [
    'dist/types/app/loam.d.ts is of no use to anybody',
  ])
})

test('a declaration that leads to a file outside of the package is a problem', () => {
  assert.deepEqual(problemsOf({ ...SOUND, 'dist/index.d.ts': "import('./app/loam.js')" }), [
    'dist/index.d.ts needs dist/app/loam.d.ts, which does not exist',
  ])
})

test('a source map without the sources is a problem, and so is a package without maps', () => {
  assert.deepEqual(problemsOf({ ...SOUND, 'dist/index.js.map': '{}' }), [
    'dist/index.js.map has no sources in it',
  ])
  const { 'dist/index.js.map': _map, ...without } = SOUND
  assert.deepEqual(problemsOf(without), ['there are no source maps'])
})
