// Layers that a client applies to the mounts of a snapshot: nothing is unpacked, and the commit of the snapshot is the layer.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
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
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import type { Wiring } from '../../src/app/wiring.ts'
import { chainIds, type DiffId, digestOf, parseDiffId } from '../../src/image/index.ts'
import { mountErofs, unmountAll } from '../../src/linux/index.ts'
import { buildTar, mountSnapshot } from '../../src/testing/index.ts'
import { openWiring } from '../support/open-wiring.ts'

interface Fixture extends AsyncDisposable {
  readonly folder: string
  readonly parts: Wiring
}

async function openStore(settings: Readonly<Record<string, unknown>> = {}): Promise<Fixture> {
  await using held = new AsyncDisposableStack()
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'loam-applied-')))
  held.defer(() => {
    rmSync(folder, { recursive: true })
  })
  const parts = held.use(await openWiring(folder, settings))
  const all = held.move()
  return { folder, parts, [Symbol.asyncDispose]: async () => all.disposeAsync() }
}

/** A compressed layer, as a client names it: by its blob alone. */
function layerOf(tar: Buffer, blob = gzipSync(tar)) {
  const diffId: DiffId = parseDiffId(`sha256:${createHash('sha256').update(tar).digest('hex')}`)
  const open = async function* () {
    for (let start = 0; start < blob.length; start += 1000)
      yield Buffer.from(blob.subarray(start, start + 1000))
  }
  return { diffId, layer: { blob: { digest: digestOf(blob), sizeBytes: blob.length }, open } }
}

const BASE = layerOf(
  buildTar([{ name: 'etc/' }, { name: 'etc/hello', data: 'one' }, { name: 'etc/gone', data: 'x' }]),
)
const TOP = layerOf(
  buildTar([{ name: 'etc/' }, { name: 'etc/hello', data: 'two' }, { name: 'etc/.wh.gone', data: '' }]),
)

test('blobs that are applied to snapshots are layers of the store, which are shown together and never unpacked', async () => {
  await using store = await openStore()
  const { parts, folder } = store
  const snapshotter = parts.makeSnapshotter()
  const [base, top] = chainIds([BASE.diffId, TOP.diffId])
  const first = await snapshotter.apply(await snapshotter.prepare('default/1/extract-1 base', ''), BASE.layer)
  assert.equal(first?.diffId, BASE.diffId)
  // A layer that is applied is kept, also before the commit.
  await parts.layers.prune()
  await snapshotter.commit({ name: 'default/1/base', key: 'default/1/extract-1 base' })
  const second = await snapshotter.apply(
    await snapshotter.prepare('default/2/extract-2 top', 'default/1/base'),
    TOP.layer,
  )
  assert.equal(second?.diffId, TOP.diffId)
  await snapshotter.commit({ name: 'default/2/top', key: 'default/2/extract-2 top' })
  await snapshotter.cleanup()
  assert.deepEqual(readdirSync(parts.paths.snapshots), [])
  assert.deepEqual(
    [...parts.metadata.snapshots.list()].map(({ chainId, diffId }) => [chainId, diffId]),
    [
      [base, BASE.diffId],
      [top, TOP.diffId],
    ],
  )
  const { sizeBytes, inodes } = await snapshotter.usage('default/2/top')
  assert.deepEqual([sizeBytes, inodes > 0], [second.tarBytes, true])
  const target = join(folder, 'mounted')
  mkdirSync(target)
  {
    using _mounted = mountSnapshot(await snapshotter.prepare('c', 'default/2/top'), target)
    assert.equal(readFileSync(join(target, 'etc/hello'), 'utf8'), 'two')
    assert.equal(existsSync(join(target, 'etc/gone')), false)
  }
  for (const name of ['c', 'default/2/top', 'default/1/base']) await snapshotter.remove(name)
  await snapshotter.cleanup()
  assert.deepEqual(readdirSync(parts.paths.layers), [])
})

test('a layer that meets a full disk is applied once what nothing needs is removed', async () => {
  await using store = await openStore()
  const { layers, paths } = store.parts
  const snapshotter = store.parts.makeSnapshotter()
  // A layer that nothing needs, and a retained blob.
  const unneeded = await layers.add(TOP.layer, undefined)
  unneeded.lease.release()
  mkdirSync(paths.retained, { recursive: true })
  writeFileSync(join(paths.retained, TOP.layer.blob.digest.replace(':', '-')), 'x')
  let opened = 0
  const open = async function* () {
    opened += 1
    if (opened === 1) throw Object.assign(new Error('no space left'), { code: 'ENOSPC', syscall: 'write' })
    yield* BASE.layer.open()
  }
  const mounts = await snapshotter.prepare('default/1/extract-1 base', '')
  const applied = await snapshotter.apply(mounts, { ...BASE.layer, open })
  assert.deepEqual([applied?.diffId, opened], [BASE.diffId, 2])
  assert.deepEqual(
    [layers.find(TOP.diffId), layers.find(BASE.diffId)?.diffId, readdirSync(paths.retained)],
    [undefined, BASE.diffId, []],
  )
})

test('layers that are unpacked at the same time, and get their parents by the commit, are one stack', async () => {
  await using store = await openStore()
  const snapshotter = store.parts.makeSnapshotter()
  await Promise.all(
    [BASE, TOP].map(async ({ layer }, index) => {
      await snapshotter.apply(await snapshotter.prepare(`extract-${index}`, ''), layer)
    }),
  )
  await snapshotter.commit({ name: 'base', key: 'extract-0' })
  await snapshotter.commit({ name: 'top', key: 'extract-1', rebase: 'base' })
  const found = [...store.parts.metadata.snapshots.list()].at(-1)
  assert.equal(found?.chainId, chainIds([BASE.diffId, TOP.diffId]).at(-1))
})

test('a damaged blob is refused, and other mounts than those of an empty snapshot on layers are left to the client', async () => {
  await using store = await openStore()
  const { parts, folder } = store
  const snapshotter = parts.makeSnapshotter()
  const mounts = await snapshotter.prepare('extract-1', '')
  const { blob } = BASE.layer
  const damaged = { blob: { ...blob, digest: digestOf(Buffer.from('other')) }, open: BASE.layer.open }
  await assert.rejects(snapshotter.apply(mounts, damaged), { code: 'DIGEST_MISMATCH' })
  const short = { blob: { ...blob, sizeBytes: blob.sizeBytes + 1 }, open: BASE.layer.open }
  await assert.rejects(snapshotter.apply(mounts, short), { code: 'SIZE_MISMATCH' })
  const broken = layerOf(Buffer.from('no tar at all'), gzipSync(Buffer.alloc(1024, 1)))
  await assert.rejects(snapshotter.apply(mounts, broken.layer), { code: 'TAR_INVALID' })
  await parts.layers.prune()
  await parts.layers.settle()
  assert.deepEqual(readdirSync(parts.paths.layers), [])
  const path = (key: string) => join(parts.paths.snapshots, key, 'fs')
  for (const other of [
    [],
    [{ type: 'bind', source: folder, options: ['rw'] }],
    [{ type: 'bind', source: path('1'), options: ['ro'] }],
    [{ type: 'bind', source: `${path('1')}/..`, options: ['rw'] }],
    [{ type: 'bind', source: path('01'), options: ['rw'] }],
    [{ type: 'bind', source: path('7'), options: ['rw'] }],
    [...mounts, ...mounts],
  ] as const)
    assert.equal(await snapshotter.apply(other, BASE.layer), undefined, JSON.stringify(other))
  writeFileSync(join(path('1'), 'file'), '')
  assert.equal(await snapshotter.apply(mounts, BASE.layer), undefined)
  rmSync(join(path('1'), 'file'))
  // A snapshot that is not unpacked to may be mounted at once, and would not show the layer.
  assert.equal(await snapshotter.apply(await snapshotter.prepare('container', ''), BASE.layer), undefined)
  // Written to after it was applied: neither the layer nor the file may be lost in silence.
  assert.ok((await snapshotter.apply(mounts, BASE.layer)) !== undefined)
  // A second time the same, and no other one in its place.
  assert.ok((await snapshotter.apply(mounts, BASE.layer)) !== undefined)
  await assert.rejects(snapshotter.apply(mounts, TOP.layer), { message: /another layer was applied/ })
  await assert.rejects(snapshotter.mounts('extract-1'), { message: /commit it first/ })
  writeFileSync(join(path('1'), 'file'), '')
  await assert.rejects(snapshotter.commit({ name: 'base', key: 'extract-1' }), {
    code: 'SNAPSHOT_INVALID',
    message: /it has files besides its layer/,
  })
  rmSync(join(path('1'), 'file'))
  await snapshotter.commit({ name: 'base', key: 'extract-1' })
  // On an unpacked parent a layer of the store cannot be shown.
  await snapshotter.prepare('unpacked', '')
  await snapshotter.commit({ name: 'folder', key: 'unpacked' })
  assert.equal(
    await snapshotter.apply(await snapshotter.prepare('extract-2', 'folder'), TOP.layer),
    undefined,
  )
  await snapshotter.apply(await snapshotter.prepare('extract-alone', ''), TOP.layer)
  await assert.rejects(snapshotter.commit({ name: 'moved', key: 'extract-alone', rebase: 'folder' }), {
    code: 'SNAPSHOT_INVALID',
    message: /cannot be on a snapshot that is unpacked/,
  })
})

test('with snapshot_mounts=erofs the client gets the files of the layers as an EROFS mount, and an overlay on it', async () => {
  await using store = await openStore({ snapshot_mounts: 'erofs' })
  const { parts, folder } = store
  const snapshotter = parts.makeSnapshotter()
  await snapshotter.apply(await snapshotter.prepare('default/1/extract-1 base', ''), BASE.layer)
  await snapshotter.commit({ name: 'base', key: 'default/1/extract-1 base' })
  await snapshotter.apply(await snapshotter.prepare('default/2/extract-2 top', 'base'), TOP.layer)
  await snapshotter.commit({ name: 'top', key: 'default/2/extract-2 top' })
  const [erofs, overlay, ...others] = await snapshotter.prepare('c', 'top')
  assert.deepEqual([erofs?.type, overlay?.type, others], ['erofs', 'format/overlay', []])
  assert.ok(erofs !== undefined && overlay !== undefined)
  assert.deepEqual(await snapshotter.view('v', 'top'), [erofs])
  assert.equal(snapshotter.findChange([erofs], [erofs, overlay]), 'c')
  const devices = erofs.options.flatMap((option) => /^device=(.*)$/.exec(option)?.[1] ?? [])
  const [below, target] = [join(folder, 'below'), join(folder, 'target')]
  mkdirSync(below)
  mkdirSync(target)
  mountErofs({ image: erofs.source, devices, target: below })
  {
    using _below = { [Symbol.dispose]: () => unmountAll(below) }
    const options = overlay.options.map((option) => option.replace('{{ mount 0 }}', below))
    using _mounted = mountSnapshot([{ ...overlay, type: 'overlay', options }], target)
    writeFileSync(join(target, 'etc/own'), 'written')
    assert.equal(readFileSync(join(target, 'etc/hello'), 'utf8'), 'two')
    assert.equal(existsSync(join(target, 'etc/gone')), false)
  }
  for (const name of ['v', 'c', 'top', 'base']) await snapshotter.remove(name)
  await snapshotter.cleanup()
})
