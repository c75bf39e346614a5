import assert from 'node:assert/strict'
import { once } from 'node:events'
import { closeSync, mkdirSync, mkdtempDisposableSync, openSync, renameSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { packFiles } from './pack-folder.ts'

test('a report of packed files has short lines, with the name of the file and why it is left out', async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), 'loam-pack-'))
  const directory = join(folder.path, ...Array.from({ length: 12 }, () => 'd'.repeat(200)))
  mkdirSync(directory, { recursive: true })
  const server = createServer()
  await once(server.listen(join(folder.path, 's')), 'listening')
  renameSync(join(folder.path, 's'), join(directory, 'talk'))
  const source = openSync(folder.path, 'r')
  try {
    const { leftOut } = packFiles(source, { name: 'x', write: () => undefined })
    const [line = ''] = leftOut
    assert.deepEqual([leftOut.length, line.length], [1, 501])
    assert.match(line, /^left out \/d+\/.*…d+.*\/talk: .*socket$/)
  } finally {
    closeSync(source)
    server.close()
  }
})
