import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { type Loam, openLoam } from '../app/index.ts'
import { isLoamError } from '../errors/index.ts'
import { buildImage, buildTar, writeOciLayout } from '../testing/index.ts'

const TARS = [
  buildTar([
    { name: 'etc/' },
    { name: 'etc/os', data: 'x'.repeat(100) },
    { name: 'etc/old', data: 'x'.repeat(1000) },
    { name: 'usr/lib/a', data: 'x'.repeat(5000) },
    { name: 'usr/lib/b', type: 'hardlink', linkName: 'usr/lib/a' },
    { name: 'usr/lib/empty' },
    { name: Buffer.from('usr/caf\xe9\\', 'latin1'), data: 'xyz' },
    { name: 'sbin', type: 'symlink', linkName: 'usr/sbin' },
  ]),
  buildTar([
    { name: 'etc/.wh.old' },
    { name: 'etc/os', data: 'y'.repeat(200) },
    { name: 'opt/new', data: 'z'.repeat(7) },
  ]),
]

async function withStore(act: (loam: Loam) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'loam-contents-'))
  try {
    writeOciLayout(join(folder, 'layout'), { v1: buildImage({ tars: TARS }) })
    await using loam = await openLoam({
      flags: { root: join(folder, 'root'), state: join(folder, 'state') },
      file: null,
    })
    await loam.images.put(join(folder, 'layout'), 'example.com/web:v1')
    await act(loam)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

test('the contents of an image are the merged tree, with the total size below each name and the size that each layer hides', async () => {
  await withStore(async (loam) => {
    const root = await loam.images.contents('example.com/web:v1')
    const [base, top] = root.layers
    assert.deepEqual(
      {
        path: root.path,
        bytes: root.bytes,
        files: root.files,
        hidden: root.hidden,
        base: { ...base, diffId: undefined },
        top: { ...top, diffId: undefined },
        names: root.entries.map(({ name, type, bytes, files }) => [name, type, bytes, files]),
      },
      {
        path: '/',
        bytes: 5210,
        files: 5,
        hidden: [
          { layer: 0, path: '/etc/old', bytes: 1000 },
          { layer: 0, path: '/etc/os', bytes: 100 },
        ],
        base: { diffId: undefined, bytes: 6103, files: 5, hiddenBytes: 1100, hiddenFiles: 2 },
        top: { diffId: undefined, bytes: 207, files: 2, hiddenBytes: 0, hiddenFiles: 0 },
        names: [
          ['usr', 'directory', 5003, 3],
          ['etc', 'directory', 200, 1],
          ['opt', 'directory', 7, 1],
          ['sbin', 'symlink', 0, 0],
        ],
      },
    )
    const etc = await loam.images.contents('example.com/web:v1', { path: 'etc' })
    assert.deepEqual(
      etc.entries.map(({ name, bytes, layer }) => [name, bytes, layer]),
      [['os', 200, 1]],
    )
    // A hard-linked file counts at its first name.
    const lib = await loam.images.contents('example.com/web:v1', { path: '/usr/lib' })
    assert.deepEqual([lib.bytes, lib.files], [5000, 2])
  })
})

test('the contents of a layer show which of its files later layers hide, and the names that it removes from lower layers', async () => {
  await withStore(async (loam) => {
    const base = await loam.images.contents('example.com/web:v1', { layer: 0, path: '/etc' })
    assert.deepEqual(
      base.entries.map(({ name, bytes, hiddenBytes }) => [name, bytes, hiddenBytes]),
      [
        ['old', 1000, 1000],
        ['os', 100, 100],
      ],
    )
    const top = await loam.images.contents('example.com/web:v1', { layer: 1, path: '/etc' })
    assert.deepEqual(
      top.entries.map(({ name, type, bytes }) => [name, type, bytes]),
      [
        ['os', 'file', 200],
        ['old', 'whiteout', 0],
      ],
    )
  })
})

test('a name that is not UTF-8 is listed in a form that can be used as a path, and a missing path is refused', async () => {
  await withStore(async (loam) => {
    const usr = await loam.images.contents('example.com/web:v1', { path: '/usr' })
    assert.deepEqual(
      usr.entries.map(({ name }) => name),
      ['lib', 'caf\\xe9\\\\'],
    )
    const refused = async (options: object, code: 'PATH_NOT_FOUND' | 'USAGE' | 'IMAGE_NOT_FOUND') => {
      await assert.rejects(
        loam.images.contents('example.com/web:v1', options),
        (error) => isLoamError(error, code),
        JSON.stringify(options),
      )
    }
    await refused({ path: '/usr/caf\\xe9\\\\' }, 'PATH_NOT_FOUND')
    await refused({ path: '/nothing' }, 'PATH_NOT_FOUND')
    await refused({ path: '/sbin' }, 'PATH_NOT_FOUND')
    await refused({ path: '/etc/../../etc' }, 'USAGE')
    await refused({ layer: 2 }, 'USAGE')
    await assert.rejects(loam.images.contents('example.com/other'), (error) =>
      isLoamError(error, 'IMAGE_NOT_FOUND'),
    )
  })
})
