// The directory that containerd reads as `layer_content_caches`: layers as EROFS images, stacked by plain overlayfs.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import * as fc from 'fast-check'
import { isLoamError, openLoam } from '../../src/index.ts'
import {
  type BuildEntry,
  buildImage,
  buildTar,
  listTree,
  LOWER_LINK,
  ODD_BASE,
  ODD_TOP,
  ODD_UNLISTED,
  writeOciLayout,
} from '../../src/testing/index.ts'
import { applyLayer, FileTree } from '../../src/tree/index.ts'
import { fsckErofs } from '../support/fsck-erofs.ts'
import { denseLayer } from '../support/random-layers.ts'
import { rounds } from '../support/rounds.ts'
import { must, World } from '../support/world.ts'

const TIME = { mtimeSeconds: 1_600_000_000, mtimeNanoseconds: 7 }

/** Whiteouts that hide nothing, in directories that only this layer has, and a directory for whiteouts alone. */
const VAIN: readonly BuildEntry[] = [
  { name: 'own/', ...TIME },
  { name: 'own/.wh.missing', data: '' },
  { name: 'own/deep/.wh.missing', data: '' },
  { name: 'nowhere/.wh.missing', data: '' },
  { name: 'kept/.wh.missing', data: '' },
  { name: 'kept/inner/.wh.file', data: '' },
]
/** Replaces all below by a root of its own. */
const OPAQUE_ROOT: readonly BuildEntry[] = [
  { name: './', mode: 0o711, ...TIME },
  { name: '.wh..wh..opq', data: '' },
  { name: 'bin/only', data: 'left', ...TIME },
]
const SHARED_TOP: readonly BuildEntry[] = [{ name: 'etc/added', data: 'added', ...TIME }]
const NOTHING: readonly BuildEntry[] = []
/** Has a name to hide in one of its places alone. */
const HIDING: readonly BuildEntry[] = [
  { name: 'x', ...TIME },
  { name: '.wh.gone', data: '' },
]

const IMAGES: Readonly<Record<string, readonly (readonly BuildEntry[])[]>> = {
  odd: [ODD_BASE, ODD_TOP, ODD_UNLISTED, LOWER_LINK, VAIN],
  opaque: [ODD_BASE, OPAQUE_ROOT, SHARED_TOP],
  twice: [ODD_BASE, SHARED_TOP, NOTHING, [{ name: 'between', ...TIME }], SHARED_TOP, NOTHING],
  roots: [[{ name: './', mode: 0o755, ...TIME }], NOTHING, [{ name: './', mode: 0o711, ...TIME }], NOTHING],
  hides: [HIDING, [{ name: 'gone', data: 'secret', ...TIME }], HIDING],
  changes: [ODD_BASE, ODD_TOP, ODD_UNLISTED, ODD_TOP],
  base: [ODD_BASE, [{ name: 'new-file', data: 'second image', ...TIME }]],
  strict: [[{ name: 'etc/', mode: 0o700, ...TIME }], SHARED_TOP],
  open: [[{ name: 'etc/', mode: 0o755, ...TIME }], SHARED_TOP],
  zero: [[{ name: 'zero', type: 'character', deviceMajor: 0, deviceMinor: 0 }]],
}

const SEED = process.env['LOAM_SEED'] === undefined ? 1 : Number(process.env['LOAM_SEED'])

const digestOf = (tar: Buffer) => createHash('sha256').update(tar).digest('hex')
const blobAt = (cache: string, hex: string) => join(cache, 'sha256', hex.slice(0, 2), `${hex}.erofs`)
const blobOf = (cache: string, entries: readonly BuildEntry[]) => blobAt(cache, digestOf(buildTar(entries)))

/** Hard links are known by their names; overlayfs counts those in the layers. */
function withoutLinks(listing: readonly string[]): string[] {
  const groupOf = (line: string) => / same=(.*)$/.exec(line)?.[1]
  const groups = Map.groupBy(listing, groupOf)
  return listing.map((line) =>
    (groups.get(groupOf(line))?.length ?? 0) > 1 ? line : line.replace(/ same=.*$/, ''),
  )
}

/** A hard link may name a file that no layer has. */
function canMerge(layers: readonly FileTree[]): boolean {
  const merged = new FileTree()
  try {
    for (const [index, layer] of layers.entries()) applyLayer(merged, layer, index)
    return true
  } catch (error) {
    if (isLoamError(error, 'TAR_INVALID')) return false
    throw error
  }
}

describe('a cache of containerd', () => {
  const world = new World()
  const layout = join(world.folder, 'layout')
  writeOciLayout(
    layout,
    Object.fromEntries(
      Object.entries(IMAGES).map(([name, layers]) => [name, buildImage({ tars: layers.map(buildTar) })]),
    ),
  )
  after(() => {
    assert.deepEqual(world.leftovers(), [])
    world[Symbol.dispose]()
  })
  const open = async () =>
    openLoam({
      file: null,
      flags: { root: out('library'), state: out('library-state') },
      env: process.env,
    })
  const out = (name: string) => join(world.folder, name)
  const nameOf = (image: string) => `oci:${layout}:${image}`
  const filesOf = (cache: string) =>
    readdirSync(cache, { recursive: true, encoding: 'utf8' })
      .filter((name) => statSync(join(cache, name)).isFile())
      .toSorted()
  const exportTo = (cache: string, image: string) => {
    const { status, stdout, stderr } = world.loam(
      '--json',
      'export',
      '--format',
      'containerd-cache',
      nameOf(image),
      cache,
    )
    assert.equal(status, 0, stderr)
    return (JSON.parse(stdout) as { notes: string[] }).notes
  }
  /** Mounts each file as containerd does, and all by plain overlayfs; returns what is seen. */
  const listBlobs = (blobs: readonly string[]) => {
    const mounted: string[] = []
    try {
      const lowers = blobs.map((blob, index) => {
        const target = out(`lower-${index}`)
        mkdirSync(target, { recursive: true })
        // Overlayfs refuses one file system in two places.
        const copy = out(`blob-${index}`)
        if (blobs.indexOf(blob) < index) copyFileSync(blob, copy)
        must('mount', '-t', 'erofs', '-o', 'ro,loop', blobs.indexOf(blob) < index ? copy : blob, target)
        mounted.push(target)
        return target
      })
      const target = out('stack')
      mkdirSync(target, { recursive: true })
      must('mount', '-t', 'overlay', 'overlay', '-o', `ro,lowerdir=${lowers.toReversed().join(':')}`, target)
      mounted.push(target)
      return listTree(target)
    } finally {
      for (const target of mounted.toReversed()) must('umount', target)
    }
  }
  const listStack = (cache: string, image: string) =>
    listBlobs((IMAGES[image] ?? []).map((entries) => blobOf(cache, entries)))
  const listCopy = (image: string) =>
    listTree(
      world
        .loam('--quiet', 'provision', '--id', `copy-${image}`, '--backend', 'copy', nameOf(image))
        .stdout.trim(),
    )

  for (const image of ['odd', 'opaque']) {
    test(`the layers of image ${image} are mounted as they are, and overlayfs shows the same as a copy`, () => {
      const cache = out(`cache-${image}`)
      const notes = exportTo(cache, image)
      const layers = [...new Set(IMAGES[image] ?? [])]
      assert.deepEqual(filesOf(cache), layers.map((entries) => blobOf('', entries)).toSorted())
      for (const entries of layers) {
        fsckErofs(blobOf(cache, entries), [])
        assert.doesNotMatch(readFileSync(blobOf(cache, entries), 'latin1'), /loam/)
      }
      assert.deepEqual(listStack(cache, image), listCopy(image))
      assert.deepEqual(notes, [])
    })
  }

  test('random layers that depend on each other are stacked as a copy shows them', async () => {
    const runs = rounds(40, 5, 'LOAM_RUNS')
    const stacks = fc
      .sample(fc.array(denseLayer, { minLength: 2, maxLength: 5 }), { numRuns: runs * 2, seed: SEED })
      .filter((layers) => canMerge(layers.map(({ tree }) => tree)))
      .filter((layers) => new Set(layers.map(({ tar }) => tar.toString('latin1'))).size === layers.length)
      .slice(0, runs)
    const random = out('random')
    writeOciLayout(
      random,
      Object.fromEntries(
        stacks.map((layers, index) => [`r${index}`, buildImage({ tars: layers.map(({ tar }) => tar) })]),
      ),
    )
    await using loam = await open()
    for (const [index, layers] of stacks.entries()) {
      const image = `oci:${random}:r${index}`
      const { rootfsPath } = await loam.provision(image, { backend: 'copy', id: `copy-${index}` })
      const expected = withoutLinks(listTree(rootfsPath))
      await loam.destroy(`copy-${index}`)
      await loam.export(image, { format: 'containerd-cache', output: out(`random-${index}`) })
      const blobs = layers.map(({ tar }) => blobAt(out(`random-${index}`), digestOf(tar)))
      assert.deepEqual(withoutLinks(listBlobs(blobs)), expected, fc.stringify(layers))
    }
  })

  test('another image adds only its own layers, and existing files stay as they are', () => {
    const cache = out('cache-shared')
    exportTo(cache, 'odd')
    const before = new Map(
      filesOf(cache).map((name) => [name, statSync(join(cache, name), { bigint: true })]),
    )
    assert.deepEqual(exportTo(cache, 'base'), [])
    assert.deepEqual(exportTo(cache, 'odd'), [])
    const added = filesOf(cache).filter((name) => !before.has(name))
    assert.deepEqual(
      added,
      (IMAGES['base'] ?? []).slice(1).map((entries) => blobOf('', entries)),
    )
    for (const [name, { ino, mtimeNs }] of before) {
      const now = statSync(join(cache, name), { bigint: true })
      assert.deepEqual([now.ino, now.mtimeNs], [ino, mtimeNs])
    }
  })

  test('a file that another image needed otherwise is left as it is, and a note says so', () => {
    const cache = out('cache-differs')
    assert.deepEqual(exportTo(cache, 'strict'), [])
    const bytes = readFileSync(blobOf(cache, SHARED_TOP))
    const [note, ...others] = exportTo(cache, 'open')
    assert.match(note ?? '', /differs from this layer on the layers of this image/)
    assert.deepEqual(others, [])
    assert.deepEqual(readFileSync(blobOf(cache, SHARED_TOP)), bytes)
  })

  test('two exports to one directory at once both succeed', async () => {
    const cache = out('cache-both')
    await using loam = await open()
    await Promise.all(
      ['odd', 'odd', 'opaque'].map(async (image) =>
        loam.export(nameOf(image), { format: 'containerd-cache', output: cache }),
      ),
    )
    const layers = [...new Set(['odd', 'opaque'].flatMap((image) => IMAGES[image] ?? []))]
    assert.equal(filesOf(cache).length, layers.length)
    assert.deepEqual(readdirSync(cache), ['sha256'])
  })

  test('no symlink in the place of a directory of a cache is followed', () => {
    const [cache, elsewhere] = [out('cache-links'), out('elsewhere')]
    mkdirSync(elsewhere)
    const attempt = () => world.failure('export', '--format', 'containerd-cache', nameOf('base'), cache).code
    symlinkSync(elsewhere, cache)
    assert.equal(attempt(), 'USAGE')
    rmSync(cache)
    mkdirSync(cache)
    symlinkSync(elsewhere, join(cache, 'sha256'))
    assert.equal(attempt(), 'USAGE')
    assert.deepEqual([readdirSync(elsewhere), readdirSync(cache)], [[], ['sha256']])
  })

  for (const [image, count] of Object.entries({ twice: 4, roots: 3 }))
    test(`a layer that image ${image} has twice is one file, and overlayfs shows the same as a copy`, () => {
      const cache = out(`cache-${image}`)
      assert.deepEqual(exportTo(cache, image), [])
      assert.equal(filesOf(cache).length, count)
      assert.deepEqual(listStack(cache, image), listCopy(image))
    })

  test('a layer that needs another file in each of its places is refused before anything is written', () => {
    for (const image of ['hides', 'changes']) {
      const cache = out(`cache-${image}`)
      const { code } = world.failure('export', '--format', 'containerd-cache', nameOf(image), cache)
      assert.equal(code, 'LAYER_UNSUPPORTED')
      assert.equal(existsSync(cache), false)
    }
  })

  test('files get the mode that is asked for, and directories allow their readers to search', () => {
    const cache = out('cache-mode')
    const { status, stderr } = world.loam(
      'export',
      '--mode',
      '0644',
      '--format',
      'containerd-cache',
      nameOf('strict'),
      cache,
    )
    assert.equal(status, 0, stderr)
    assert.equal(statSync(blobOf(cache, SHARED_TOP)).mode & 0o777, 0o644)
    assert.equal(statSync(join(cache, 'sha256')).mode & 0o777, 0o755)
  })

  test('a full disk is NO_SPACE, a canceled export CANCELED, and neither leaves anything', async () => {
    const disk = out('disk')
    mkdirSync(disk)
    must('mount', '-t', 'tmpfs', '-o', 'size=256k', 'none', disk)
    try {
      const large = out('large')
      writeOciLayout(large, {
        app: buildImage({ tars: [buildTar([{ name: 'large', data: Buffer.alloc(4 << 20, 'x') }])] }),
      })
      await using loam = await open()
      const attempt = async (signal?: AbortSignal) =>
        loam.export(`oci:${large}:app`, { format: 'containerd-cache', output: join(disk, 'cache'), signal })
      await assert.rejects(attempt(), (error) => isLoamError(error, 'NO_SPACE'))
      assert.deepEqual(readdirSync(disk), [])
      await assert.rejects(attempt(AbortSignal.abort()), (error) => isLoamError(error, 'CANCELED'))
      assert.deepEqual(readdirSync(disk), [])
    } finally {
      must('umount', disk)
    }
  })

  test('what cannot be a cache is refused before anything is written', () => {
    const failure = (...args: readonly string[]) =>
      world.failure('export', '--format', 'containerd-cache', ...args).code
    assert.equal(failure('--force', nameOf('base'), out('cache-none')), 'USAGE')
    assert.equal(failure('--size', '1M', nameOf('base'), out('cache-none')), 'USAGE')
    assert.equal(failure(nameOf('base'), '-'), 'USAGE')
    assert.equal(failure(nameOf('base'), out('absent/cache')), 'USAGE')
    assert.equal(failure(nameOf('zero'), out('cache-none')), 'LAYER_UNSUPPORTED')
    assert.equal(existsSync(out('cache-none')), false)
    writeFileSync(out('file'), 'kept')
    assert.notEqual(
      world.loam('export', '--format', 'containerd-cache', nameOf('base'), out('file')).status,
      0,
    )
    assert.equal(readFileSync(out('file'), 'utf8'), 'kept')
  })
})
