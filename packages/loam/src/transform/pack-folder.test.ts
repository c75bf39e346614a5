import assert from 'node:assert/strict'
import { once } from 'node:events'
import { closeSync, mkdirSync, mkdtempDisposableSync, openSync, renameSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { isMachineRoot, libc } from '../linux/index.ts'
import { type TarEntry, TarReader } from '../tar/index.ts'
import { recordOwner } from '../tree/index.ts'
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

test('a single file has the same owner and xattrs in a tar as it has in its directory', () => {
  using directory = mkdtempDisposableSync(join(tmpdir(), 'loam-pack-'))
  const path = join(directory.path, 'file')
  writeFileSync(path, 'x')
  const fd = openSync(path, 'r')
  for (const { name, value } of recordOwner({ uid: 33, gid: 34 }))
    libc().fsetxattr(fd, Buffer.concat([name, Buffer.alloc(1)]), value, value.length, 0)
  closeSync(fd)
  const [alone] = pack(path, 'file')
  const within = pack(dirname(path), 'top').find(({ name }) => name.toString() === 'top/file')
  const seen = (entry: TarEntry | undefined) => ({
    owner: [entry?.uid, entry?.gid],
    xattrs: entry?.xattrs.map(({ name }) => name.toString()),
  })
  assert.deepEqual(seen(alone), seen(within))
  // Where Loam cannot give files to their owners, it records them.
  if (!isMachineRoot()) assert.deepEqual(seen(alone), { owner: [33, 34], xattrs: [] })
})

function pack(path: string, name: string): TarEntry[] {
  const entries: TarEntry[] = []
  const reader = new TarReader((entry) => entries.push(entry))
  const source = openSync(path, 'r')
  try {
    packFiles(source, {
      name,
      write: (chunk) => {
        reader.write(chunk)
      },
    })
  } finally {
    closeSync(source)
  }
  reader.end()
  return entries
}
