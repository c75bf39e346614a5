import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { manPages } from './man-pages.ts'

const pages = manPages({ version: '1.2.3', date: new Date(0) })
const page = (file: string) => pages.find((each) => each.file === file)?.text ?? ''

test('there is a man page for each command, with its options and examples', () => {
  const text = page('loam-export.1')
  assert.match(text, /^\.TH LOAM\\-EXPORT 1 1970-01-01 "Loam 1\.2\.3" "Loam"$/m)
  assert.match(text, /^\.B loam export \[OPTION\.\.\.\] IMAGE\\-OR\\-CONTAINER OUTPUT$/m)
  assert.match(text, /^\.B \\-\\-format <format>\n.*One of: erofs/m)
  assert.match(text, /^\.EX\n  loam export \\-\\-format erofs debian:12/m)
  assert.match(page('loam-snapshot-commit.1'), /^\.SH NAME$/m)
})

test('the pages of the program, its configuration and the daemon are complete', () => {
  assert.match(page('loam.1'), /^\.SS loam pull \[OPTION\.\.\.\] IMAGE/m)
  assert.match(page('loam-config.toml.5'), /^\.B docker_registry$/m)
  assert.match(page('loamd.8'), /^\.SS loamd install/m)
  assert.ok(pages.every(({ text }) => !text.includes('__complete')))
})

test('mandoc finds nothing wrong in the man pages', () => {
  for (const { file, text } of pages) {
    const { stdout, error } = spawnSync('mandoc', ['-Tlint', '-Wwarning'], { input: text, encoding: 'utf8' })
    if (error !== undefined) throw error
    assert.equal(stdout, '', file)
  }
})
