// Commits of containers and snapshots that are removed meanwhile: they are complete, or fail.
import assert from 'node:assert/strict'
import { statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, test } from 'node:test'
import { openLoam } from '../../src/index.ts'
import { isLoamError } from '../../src/errors/index.ts'
import { buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { World } from '../support/world.ts'

const BIG_BYTES = 64 << 20
const SMALL_FILES = 50

/** A file that takes a while to read, and others after it. */
function writeFiles(folder: string): void {
  writeFileSync(join(folder, 'a'), '')
  truncateSync(join(folder, 'a'), BIG_BYTES)
  for (let index = 0; index < SMALL_FILES; index += 1) writeFileSync(join(folder, `f${index}`), '')
}

/** Bytes of a tar with all of them, each with its header and its xattrs' if it has any. */
const ALL_BYTES = BIG_BYTES + 512 * SMALL_FILES

async function wait(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms))
}

describe('a commit', () => {
  const open = async (world: World) =>
    openLoam({ file: null, flags: { root: world.root, state: join(world.folder, 'state') }, env: {} })

  test('a commit holds all of a container that is destroyed meanwhile', async () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    writeOciLayout(layout, { base: buildImage({ tars: [buildTar([{ name: 'base', data: 'base' }])] }) })
    await using loam = await open(world)
    for (const ms of [20, 60, 120]) {
      const { rootfsPath } = await loam.provision(`oci:${layout}:base`, { id: 'c' })
      writeFiles(rootfsPath)
      const commit = loam.images.commit('c', 'new:1')
      await wait(ms)
      await Promise.all([commit, loam.destroy('c')])
      assert.ok((await commit).image.sizeBytes > ALL_BYTES)
    }
    assert.deepEqual(await loam.containers.list(), [])
  })

  test('a commit and a diff of a snapshot that is removed meanwhile hold all of it, or fail', async () => {
    using world = new World()
    await using loam = await open(world)
    const snapshotter = loam.snapshots.open()
    const output = join(world.folder, 'diff')
    const acts = {
      commit: async () => (await loam.snapshots.commit('s', 'new:1')).image.sizeBytes,
      diff: async () => {
        await loam.snapshots.diff('s', output)
        return statSync(output).size
      },
    }
    for (const act of Object.values(acts)) {
      const [mount] = await snapshotter.prepare('s', '')
      writeFiles(mount?.source ?? '')
      const settled = Promise.allSettled([act()])
      await wait(40)
      await snapshotter.remove('s')
      await snapshotter.cleanup()
      const [result] = await settled
      if (result.status === 'fulfilled') assert.ok(result.value > ALL_BYTES)
      else assert.ok(isLoamError(result.reason, 'SNAPSHOT_NOT_FOUND'), String(result.reason))
    }
  })

  test('a commit and an export of an incomplete container are refused', async () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    writeOciLayout(layout, { base: buildImage({ tars: [buildTar([{ name: 'base', data: 'base' }])] }) })
    await using loam = await open(world)
    const states = ['provisioning', 'destroying'] as const
    for (const backend of ['erofs', 'overlay', 'copy']) {
      for (const state of states) {
        const { uuid } = await loam.provision(`oci:${layout}:base`, { id: state, backend })
        using database = new DatabaseSync(join(world.root, 'metadata.db'))
        database.prepare('UPDATE rootfses SET state = ? WHERE uuid = ?').run(state, uuid)
        const isRefused = (error: unknown) =>
          isLoamError(error, 'ROOTFS_UNMOUNTED') && error.message.includes(state)
        const output = join(world.folder, 'out')
        await assert.rejects(loam.export(state, { format: 'tar', output }), isRefused)
        if (backend !== 'copy') await assert.rejects(loam.images.commit(state, 'new:1'), isRefused)
        await loam.destroy(state)
      }
    }
  })

  test('a commit of a container never takes a snapshot of the same name, and the other way round', async () => {
    using world = new World()
    const layout = join(world.folder, 'layout')
    writeOciLayout(layout, { base: buildImage({ tars: [buildTar([{ name: 'base', data: 'base' }])] }) })
    await using loam = await open(world)
    await loam.snapshots.open().prepare('only a snapshot', '')
    await loam.provision(`oci:${layout}:base`, { id: 'container' })
    await assert.rejects(loam.images.commit('only a snapshot', 'new:1'), { code: 'CONTAINER_NOT_FOUND' })
    await assert.rejects(loam.snapshots.commit('container', 'new:1'), { code: 'SNAPSHOT_NOT_FOUND' })
    assert.deepEqual(
      (await loam.images.list()).flatMap(({ names }) => names),
      [`oci:${layout}:base`],
    )
    await loam.destroy('container')
  })
})
