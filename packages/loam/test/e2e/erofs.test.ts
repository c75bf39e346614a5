// Images that are never unpacked, by the command: many layers, sparse files, and layers after a power cut.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, describe, test } from 'node:test'
import { buildImage, buildTar, RegistryServer, writeOciLayout } from '../../src/testing/index.ts'
import { fsckErofs } from '../support/fsck-erofs.ts'
import { must, World } from '../support/world.ts'

const GIB = 2 ** 30

describe('images that are never unpacked', async () => {
  const server = await RegistryServer.start()
  after(async () => server[Symbol.asyncDispose]())
  const ok = async (world: World, ...args: readonly string[]) => {
    const { status, stdout, stderr } = await world.loamAsync('--quiet', ...args)
    assert.equal(status, 0, stderr)
    return stdout.trim()
  }

  test('500 layers are one mount', async () => {
    using world = new World()
    const layers = Array.from({ length: 500 }, (_none, index) =>
      buildTar([
        { name: `file-${index}`, data: `layer ${index}` },
        { name: 'top', data: String(index) },
        ...(index === 0 ? [] : [{ name: `.wh.file-${index - 1}` }]),
      ]),
    )
    const layout = join(world.folder, 'layout')
    const image = buildImage({ tars: layers })
    writeOciLayout(layout, { many: image })
    const path = await ok(world, 'provision', '--id', 'many', `oci:${layout}:many`)
    assert.deepEqual(readdirSync(path).toSorted(), ['file-499', 'top'])
    assert.equal(readFileSync(join(path, 'top'), 'utf8'), '499')
    assert.equal(world.mounts().length, 2)
    await ok(world, 'destroy', 'many')
    assert.deepEqual(world.mounts(), [])
  })

  test('fsck.erofs accepts every image in a store', async () => {
    using world = new World()
    const tars = ['a', 'b', 'c'].map((name) =>
      buildTar([
        { name: `${name}/` },
        { name: `${name}/file`, data: Buffer.alloc(70_000, name), xattrs: { 'user.x': name } },
      ]),
    )
    const image = buildImage({ tars })
    const layout = join(world.folder, 'layout')
    writeOciLayout(layout, { app: image })
    await ok(world, 'provision', '--id', 'c', `oci:${layout}:app`)
    const tarPaths = image.diffIds.map((diffId) => join(world.root, 'layers', diffId, 'layer.tar'))
    for (const tarPath of tarPaths) fsckErofs(join(tarPath, '../layer.erofs'), [tarPath])
    fsckErofs(must('find', join(world.root, 'images'), '-name', 'merged.erofs').trim(), tarPaths)
    await ok(world, 'destroy', 'c')
  })

  test('a sparse file of 20 GiB keeps its size, and takes no space', async () => {
    using world = new World()
    const folder = join(world.folder, 'content')
    mkdirSync(folder)
    const islands = [0, GIB + 4096, 7 * GIB, 20 * GIB - 8192]
    writeFileSync(join(folder, 'sparse'), '')
    truncateSync(join(folder, 'sparse'), 20 * GIB)
    const source = openSync(join(folder, 'sparse'), 'r+')
    for (const [index, at] of islands.entries()) writeSync(source, Buffer.alloc(5000, index + 1), 0, 5000, at)
    closeSync(source)
    for (const format of ['gnu', 'posix']) {
      const tarPath = join(world.folder, `${format}.tar`)
      must('tar', '-C', folder, '--sparse', `--format=${format}`, '-cf', tarPath, 'sparse')
      const layout = join(world.folder, `layout-${format}`)
      writeOciLayout(layout, { sparse: buildImage({ tars: [readFileSync(tarPath)] }) })
      const path = await ok(world, 'provision', '--id', format, `oci:${layout}:sparse`)
      assert.equal(lstatSync(join(path, 'sparse')).size, 20 * GIB)
      const fd = openSync(join(path, 'sparse'), 'r')
      const original = openSync(join(folder, 'sparse'), 'r')
      for (const at of islands) {
        const [is, ought] = [fd, original].map((file) => {
          const around = Buffer.alloc(16_384)
          return around.subarray(0, readSync(file, around, 0, around.length, Math.max(0, at - 4000)))
        })
        assert.ok(is && ought && is.equals(ought), `${format}: at ${at}`)
      }
      for (const file of [fd, original]) closeSync(file)
      assert.ok(JSON.parse(await ok(world, '--json', 'df')).totalBytes < 20 << 20)
      await ok(world, 'destroy', format)
    }
  })

  /** As after a reboot: nothing is mounted, and files that were not known to be on the disk belong to another boot. */
  const reboot = (world: World) => {
    for (const path of world.mounts().toReversed()) must('umount', path)
    using database = new DatabaseSync(join(world.root, 'metadata.db'))
    database.exec(
      "UPDATE artifacts SET boot_id = 'earlier' WHERE is_durable = 0; UPDATE rootfses SET boot_id = 'earlier'",
    )
  }
  const image = buildImage({ tars: [buildTar([{ name: 'file', data: Buffer.alloc(200_000, 'x') }])] })
  const digest = image.layers[0]?.digest ?? ''

  test('a layer that reached the disk in time is read once after a power cut, and not fetched', async () => {
    using world = new World()
    server.addImage('cut', '1', image)
    const path = await ok(world, 'provision', '--id', 'c', `${server.host}/cut:1`)
    reboot(world)
    const fetched = server.countBlob(digest)
    const { restored, failed } = JSON.parse(await ok(world, '--json', 'recover'))
    assert.deepEqual([restored, failed], [[path], []])
    assert.equal(readFileSync(join(path, 'file')).length, 200_000)
    assert.equal(server.countBlob(digest), fetched)
    await ok(world, 'destroy', 'c')
  })

  test('a layer that did not reach the disk in time is fetched again, and never shown', async () => {
    for (const damage of ['zeros', 'short'] as const) {
      using world = new World()
      server.addImage('cut', '1', image)
      await ok(world, 'provision', '--id', 'c', `${server.host}/cut:1`)
      reboot(world)
      const tarPath = join(world.root, 'layers', image.diffIds[0] ?? '', 'layer.tar')
      const { size } = lstatSync(tarPath)
      truncateSync(tarPath, 1000)
      if (damage === 'zeros') truncateSync(tarPath, size)
      const fetched = server.countBlob(digest)
      const { failed } = JSON.parse(await ok(world, '--json', 'recover'))
      assert.deepEqual(failed, [])
      assert.equal(server.countBlob(digest), fetched + 1)
      assert.equal(
        `sha256:${createHash('sha256').update(readFileSync(tarPath)).digest('hex')}`,
        image.diffIds[0],
      )
      await ok(world, 'destroy', 'c')
    }
  })

  test('an acknowledged pull is not verified again after a power cut', async () => {
    using world = new World()
    server.addImage('pulled', '1', image)
    await ok(world, 'pull', `${server.host}/pulled:1`)
    reboot(world)
    const tarPath = join(world.root, 'layers', image.diffIds[0] ?? '', 'layer.tar')
    using database = new DatabaseSync(join(world.root, 'metadata.db'))
    const rows = database
      .prepare("SELECT kind, is_durable FROM artifacts WHERE kind IN ('tar', 'meta') ORDER BY kind DESC")
      .all()
    assert.deepEqual(
      rows.map((row) => ({ ...row })),
      [
        { kind: 'tar', is_durable: 1 },
        { kind: 'meta', is_durable: 1 },
      ],
    )
    assert.equal(existsSync(tarPath), true)
  })
})
