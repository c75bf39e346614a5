// A layer of which the store has only the tree and a sparse tar of full length.
import assert from 'node:assert/strict'
import { readFileSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { openLoam } from '../../src/index.ts'
import { buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { World } from '../support/world.ts'

test('a partial layer is not taken for a complete one by the length of its tar, and is fetched', async () => {
  using world = new World()
  const tar = buildTar([{ name: 'file', data: 'content' }])
  const image = buildImage({ tars: [tar] })
  writeOciLayout(world.path('layout'), { one: image })
  const name = `oci:${world.path('layout')}:one`
  const open = async () =>
    openLoam({ file: null, flags: { root: world.root, state: world.state }, env: process.env })
  const diffId = await (async () => {
    await using loam = await open()
    const { image: record } = await loam.images.pull(name)
    return record.layers[0]?.diffId ?? ''
  })()
  const tarPath = join(world.root, 'layers', diffId, 'layer.tar')
  truncateSync(tarPath, 0)
  truncateSync(tarPath, tar.length)
  {
    using database = new DatabaseSync(join(world.root, 'metadata.db'))
    database.exec('UPDATE layers SET is_complete = 0')
  }
  await using loam = await open()
  const sound = await loam.store.fsck({ repair: false })
  assert.deepEqual([sound.checked.layers, sound.problems], [0, []])
  await loam.images.pull(name)
  assert.ok(readFileSync(tarPath).equals(tar))
  assert.equal((await loam.store.fsck({ repair: false })).checked.layers, 1)
})
