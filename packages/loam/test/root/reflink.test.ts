// The copy backend on a file system that shares data between files.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { openLoam } from '../../src/index.ts'
import { backendConformance, buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { setUp } from '../../src/testing/set-up.ts'

const folder = join(tmpdir(), `loam-xfs-${randomUUID()}`)
const mount = join(folder, 'mnt')

describe('on xfs with reflink', () => {
  setUp((held) => {
    const disk = join(folder, 'disk')
    mkdirSync(mount, { recursive: true })
    held.defer(() => {
      rmSync(folder, { recursive: true })
    })
    execFileSync('truncate', ['-s', '400M', disk])
    execFileSync('mkfs.xfs', ['-q', '-m', 'reflink=1', disk])
    execFileSync('mount', ['-o', 'loop', disk, mount])
    held.defer(() => {
      execFileSync('umount', [mount])
    })
  })

  test('with reflink twenty copies of an image take the space of one, and writing to one changes no other', async () => {
    const data = randomBytes(8 << 20)
    const layout = join(mount, 'layout')
    writeOciLayout(layout, {
      big: buildImage({
        tars: [
          buildTar([
            { name: 'big', data },
            { name: 'small', data: 'x' },
          ]),
        ],
      }),
    })
    await using loam = await openLoam({
      flags: { root: join(mount, 'store'), state: join(mount, 'state') },
      file: null,
    })
    const copies: string[] = []
    const free = () => {
      const { bavail, bsize } = statfsSync(mount)
      return bavail * bsize
    }
    const make = async (id: string) => {
      copies.push((await loam.provision(`oci:${layout}:big`, { id, backend: 'copy' })).rootfsPath)
    }
    await make('first')
    const before20 = free()
    for (let index = 0; index < 20; index += 1) await make(`c${index}`)
    assert.ok(
      before20 - free() < 2 * data.length,
      `${before20 - free()} bytes for 20 copies of ${data.length}`,
    )
    writeFileSync(join(copies[0] ?? '', 'big'), 'changed')
    assert.ok(readFileSync(join(copies[1] ?? '', 'big')).equals(data))
    for (const { id } of await loam.containers.list()) await loam.destroy(id)
  })

  test('with reflink a file that was hard-linked over layers has its own data, whatever has its name in its layer', async () => {
    const layout = join(mount, 'linked')
    const layers = [
      [
        { name: 'l', data: 'bbb' },
        { name: 'f', data: 'aaa' },
      ],
      [{ name: 'l', type: 'hardlink', linkName: 'f' }],
    ] as const
    writeOciLayout(layout, { linked: buildImage({ tars: layers.map((layer) => buildTar(layer)) }) })
    const flags = { root: join(mount, 'store'), state: join(mount, 'state') }
    await using loam = await openLoam({ flags, file: null })
    const { rootfsPath } = await loam.provision(`oci:${layout}:linked`, { id: 'linked', backend: 'copy' })
    const read = (name: string) => readFileSync(join(rootfsPath, name), 'utf8')
    assert.deepEqual([read('f'), read('l')], ['aaa', 'aaa'])
    await loam.destroy('linked')
  })

  backendConformance({
    backend: 'copy',
    isWritable: true,
    maxLayers: Number.POSITIVE_INFINITY,
    folder: mount,
  })
})
