import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { buildSingleFile } from './single-file/build.ts'

/** Root has a cache of the machine, which a test leaves alone. */
const OTHER = process.geteuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {}

const folder = mkdtempSync(join(tmpdir(), 'loam-single-file-'))
chmodSync(folder, 0o755)
after(() => {
  rmSync(folder, { recursive: true })
})
writeFileSync(join(folder, 'executable'), '#!/bin/sh\nprintf "%s|" "${0##*/}" "$@"\n', { mode: 0o755 })
const program = join(folder, 'loam')
buildSingleFile(join(folder, 'executable'), program)
linkSync(program, join(folder, 'loamd'))

function cache(name: string): string {
  const path = join(folder, name)
  mkdirSync(path)
  if (OTHER.uid !== undefined) chownSync(path, OTHER.uid, OTHER.gid)
  return path
}

function start(file: string, home: string, ...words: readonly string[]) {
  return spawnSync(file, words, {
    ...OTHER,
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], XDG_CACHE_HOME: home },
  })
}

test('the single file unpacks its executable once, and starts it with all words hidden from Node', () => {
  const home = cache('a')
  for (let round = 0; round < 2; round += 1) {
    const { stdout, stderr } = start(program, home, 'run', '--env-file=x y', '--', '$HOME')
    assert.deepEqual([stdout, stderr], [`loam|@loam|${program}|.run|.--env-file=x y|.--|.$HOME|`, ''])
  }
  const [own = ''] = readdirSync(join(home, 'loam'))
  assert.deepEqual(readdirSync(join(home, 'loam', own)).toSorted(), ['loam', 'loamd'])
})

test('the single file is the daemon where it has the name loamd', () => {
  const { stdout } = start(join(folder, 'loamd'), cache('b'), 'install')
  assert.equal(stdout, `loamd|@loamd|${join(folder, 'loamd')}|.install|`)
})

test('the single file says where it cannot unpack, and what to do', () => {
  const { status, stderr } = start(program, join(folder, 'executable'), 'images')
  assert.equal(status, 125)
  assert.match(
    stderr,
    /^loam: unpack .*\/loam to .*\/executable\/loam: this has failed\nhint: .*XDG_CACHE_HOME/m,
  )
})
