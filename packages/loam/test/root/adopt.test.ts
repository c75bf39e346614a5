// Unpacked snapshots of an image that become layers of the store.
import assert from 'node:assert/strict'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, describe, test } from 'node:test'
import { type Loam, openLoam } from '../../src/app/index.ts'
import { lockPath, openStoreRoot } from '../../src/content/index.ts'
import { chainIds } from '../../src/image/index.ts'
import { FileLock, unmountAll } from '../../src/linux/index.ts'
import type { Snapshotter } from '../../src/snapshotter/index.ts'
import { buildImage, buildTar, writeOciLayout } from '../../src/testing/index.ts'
import { mountSnapshot } from '../../src/testing/mounting.ts'

const base = realpathSync(mkdtempSync(join(tmpdir(), 'loam-adopt-')))
after(() => {
  unmountAll(base)
  rmSync(base, { recursive: true })
})
const REF = 'containerd.io/snapshot.ref'
const image = `oci:${join(base, 'layout')}:app`
const FILES = ['below', 'middle', 'top']
const built = buildImage({ tars: FILES.map((name) => buildTar([{ name, data: name }])) })
const lowest = buildImage({ tars: [buildTar([{ name: 'below', data: 'below' }])] })
writeOciLayout(join(base, 'layout'), { app: built, lowest })

/** Unpacks the layers as a client does, under names in its namespace. */
async function unpack(
  { snapshotter, folder }: { readonly snapshotter: Snapshotter; readonly folder: string },
  chain: readonly string[],
  namespace: string,
): Promise<string[]> {
  const names: string[] = []
  for (const [index, chainId] of chain.entries()) {
    const key = `${namespace}/${index}/extract-${chainId}`
    const mounts = await snapshotter.prepare(key, names.at(-1) ?? '')
    const target = join(folder, 'target')
    mkdirSync(target, { recursive: true })
    {
      using _mount = mountSnapshot(mounts, target)
      writeFileSync(join(target, FILES[index] ?? ''), FILES[index] ?? '')
    }
    const name = `${namespace}/${index + 10}/${chainId}`
    await snapshotter.commit({ name, key, labels: { [REF]: chainId, own: 'label' } })
    names.push(name)
  }
  return names
}

async function open(name: string): Promise<{ loam: Loam; folder: string; snapshotter: Snapshotter }> {
  const folder = join(base, name)
  mkdirSync(folder)
  const flags = { root: join(folder, 'store'), state: join(folder, 'state') }
  const loam = await openLoam({ flags, file: null })
  return { loam, folder, snapshotter: loam.snapshots.open() }
}

describe('loam snapshot adopt', () => {
  test('unpacked snapshots of an image become its layers, and what is mounted stays until it is removed', async () => {
    const parts = await open('adopted')
    const { loam, folder, snapshotter } = parts
    await using _loam = loam
    const diffIds = (await loam.pull(image)).image.layers.map(({ diffId }) => diffId)
    const chain = chainIds(diffIds)
    const names = await unpack(parts, chain, 'one')
    const again = await unpack(parts, chain.slice(0, 2), 'two')
    const target = join(folder, 'running')
    mkdirSync(target)
    const mounted = await snapshotter.prepare('one/40/c', names.at(-1) ?? '')
    using _mount = mountSnapshot(mounted, target)
    writeFileSync(join(target, 'own'), 'own')
    const adoption = await loam.snapshots.adopt(image)
    assert.deepEqual(adoption.snapshots.toSorted(), [...names, ...again].toSorted())
    assert.deepEqual(readdirSync(target).toSorted(), [...FILES, 'own'].toSorted())
    const snapshots = join(folder, 'store/snapshots')
    const mounts = await snapshotter.mounts('one/40/c')
    const lower = mounts[0]?.options.find((option) => option.startsWith('lowerdir='))
    assert.match(lower ?? '', /^lowerdir=.*\/state\/images\/sha256-[0-9a-f]{64}$/)
    const second = join(folder, 'second')
    mkdirSync(second)
    {
      const other = await snapshotter.prepare('one/41/d', names.at(-1) ?? '')
      using _other = mountSnapshot(other, second)
      assert.deepEqual(readdirSync(second).toSorted(), FILES.toSorted())
    }
    const info = await snapshotter.stat(names[1] ?? '')
    assert.deepEqual([info.parent, info.labels], [names[0], { [REF]: chain[1], own: 'label' }])
    // Those of the other namespace are used by nothing.
    await snapshotter.cleanup()
    assert.equal(readdirSync(snapshots).length, FILES.length + 2)
    await snapshotter.remove('one/40/c')
    assert.deepEqual(readdirSync(target).toSorted(), [...FILES, 'own'].toSorted())
    await snapshotter.remove('one/41/d')
    await snapshotter.cleanup()
    assert.deepEqual(readdirSync(snapshots), [])
    for (const name of [...names.toReversed(), ...again.toReversed()]) await snapshotter.remove(name)
  })

  test('a container goes on with its own files over the layers when it is mounted again', async () => {
    const parts = await open('again')
    const { loam, folder, snapshotter } = parts
    await using _loam = loam
    const chain = chainIds((await loam.pull(image)).image.layers.map(({ diffId }) => diffId))
    const names = await unpack(parts, chain, 'one')
    await snapshotter.prepare('c', names.at(-1) ?? '')
    const target = join(folder, 'target')
    {
      using _mount = mountSnapshot(await snapshotter.mounts('c'), target)
      writeFileSync(join(target, 'below'), 'changed')
      rmSync(join(target, 'middle'))
    }
    await loam.snapshots.adopt(image)
    using _mount = mountSnapshot(await snapshotter.mounts('c'), target)
    assert.deepEqual(readdirSync(target).toSorted(), ['below', 'top'])
    assert.equal(readFileSync(join(target, 'below'), 'utf8'), 'changed')
  })

  test('a snapshot that is created while the layers of its parent are adopted shows all of them', async () => {
    const parts = await open('meanwhile')
    const { loam, folder, snapshotter } = parts
    await using _loam = loam
    const chain = chainIds((await loam.pull(image)).image.layers.map(({ diffId }) => diffId))
    const names = await unpack(parts, chain, 'one')
    await loam.snapshots.adopt(`oci:${join(base, 'layout')}:lowest`)
    const paths = openStoreRoot(join(folder, 'store'))
    let prepared: ReturnType<typeof snapshotter.prepare>
    {
      // The first layer cannot be mounted yet.
      using _lock = await FileLock.acquire(lockPath(paths, 'mount', chain[0] ?? ''))
      prepared = snapshotter.prepare('c', names.at(-1) ?? '')
      const adoption = await loam.snapshots.adopt(image)
      assert.deepEqual(adoption.snapshots, names.slice(1))
    }
    const target = join(folder, 'target')
    for (const mounts of [await prepared, await snapshotter.mounts('c')]) {
      using _mount = mountSnapshot(mounts, target)
      assert.deepEqual(readdirSync(target).toSorted(), FILES.toSorted())
    }
    assert.deepEqual(readdirSync(paths.snapshots).length, 1)
  })

  test('mounts of adopted directories with mapped IDs go away with the last container that uses them', async () => {
    const parts = await open('mapped')
    const { loam, folder, snapshotter } = parts
    await using _loam = loam
    const chain = chainIds((await loam.pull(image)).image.layers.map(({ diffId }) => diffId))
    const names = await unpack(parts, chain, 'one')
    await loam.snapshots.adopt(`oci:${join(base, 'layout')}:lowest`)
    await snapshotter.prepare('c', names.at(-1) ?? '', {
      'containerd.io/snapshot/uidmapping': '0:100000:65536',
      'containerd.io/snapshot/gidmapping': '0:100000:65536',
    })
    const mapped = join(folder, 'state/mapped')
    assert.equal(readdirSync(mapped).filter((name) => name.startsWith('snapshot-')).length, 2)
    await loam.snapshots.adopt(image)
    await snapshotter.remove('c')
    assert.deepEqual(readdirSync(mapped), [])
  })

  test('directories that a container uses stay when the clock steps back before the adoption', async () => {
    const parts = await open('clock')
    const { loam, folder, snapshotter } = parts
    await using _loam = loam
    const chain = chainIds((await loam.pull(image)).image.layers.map(({ diffId }) => diffId))
    const names = await unpack(parts, chain, 'one')
    const target = join(folder, 'target')
    using _mount = mountSnapshot(await snapshotter.prepare('c', names.at(-1) ?? ''), target)
    {
      using database = new DatabaseSync(join(folder, 'store/metadata.db'))
      database.exec('UPDATE snapshots SET created_us = created_us + 3600000000')
    }
    await loam.snapshots.adopt(image)
    await snapshotter.cleanup()
    assert.equal(readdirSync(join(folder, 'store/snapshots')).length, FILES.length + 1)
    for (const name of FILES) assert.equal(readFileSync(join(target, name), 'utf8'), name)
  })

  test('a snapshot on a parent that is not a layer, one for a user namespace and one of another name stay unpacked', async () => {
    const parts = await open('left')
    const { loam, folder, snapshotter } = parts
    await using _loam = loam
    const chain = chainIds((await loam.pull(image)).image.layers.map(({ diffId }) => diffId))
    await snapshotter.prepare('extract', '')
    await snapshotter.commit({ name: 'base', key: 'extract' })
    await snapshotter.prepare('extract', 'base')
    await snapshotter.commit({ name: `ns/1/${chain[1]}`, key: 'extract' })
    await snapshotter.prepare('mapped', '', {
      'containerd.io/snapshot/uidmapping': '0:100000:65536',
      'containerd.io/snapshot/gidmapping': '0:100000:65536',
    })
    await snapshotter.commit({ name: `ns/2/${chain[0]}`, key: 'mapped' })
    await assert.rejects(loam.snapshots.adopt(image), { code: 'SNAPSHOT_NOT_FOUND' })
    assert.ok(existsSync(join(folder, 'store/snapshots/3/fs')))
  })
})
