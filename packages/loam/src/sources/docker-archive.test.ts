// Archives of docker save: layers in each compression, and names with several entries.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { packedBy } from '../../test/support/packing.ts'
import { decompress } from '../compression/index.ts'
import { digestOf, parseManifestDocument } from '../image/index.ts'
import { type BuildEntry, buildImage, buildTar } from '../testing/index.ts'
import { DEFAULT_IMAGE_LIMITS } from '../tree/index.ts'
import { archiveFiles, type ArchiveFiles } from './archive-files.ts'
import { dockerArchiveSource } from './docker-archive.ts'

const folder = mkdtempSync(join(tmpdir(), 'loam-archives-'))
after(() => {
  rmSync(folder, { recursive: true })
})

// The first name is like the magic of bzip2, for as long as it can be.
const tars = ['a', 'b'].map((data) => buildTar([{ name: `BZh9${data}`, data }]))
const image = buildImage({ tars, compression: 'none' })
const layerNames = ['1.tar', '2.tar']
const documents = [
  { name: 'c.json', data: image.config.bytes },
  { name: 'manifest.json', data: JSON.stringify([{ Config: 'c.json', RepoTags: [], Layers: layerNames }]) },
]
const [base = Buffer.alloc(0), top = Buffer.alloc(0)] = tars

async function open(entries: readonly BuildEntry[]): Promise<ArchiveFiles> {
  const path = join(folder, 'archive.tar')
  writeFileSync(path, buildTar([...entries, ...documents]))
  return archiveFiles(path, DEFAULT_IMAGE_LIMITS)
}

async function* streamOf(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes
}

async function readAll(source: AsyncIterable<Buffer>): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(source))
}

/** Asserts that the layers are these tars, by their digests as well. */
async function assertLayers(members: ArchiveFiles, what: string): Promise<void> {
  const source = dockerArchiveSource('/a', {}, members)
  const { bytes, mediaType } = await source.resolve()
  const manifest = parseManifestDocument(bytes, mediaType, 'manifest')
  const layers = 'layers' in manifest ? manifest.layers : []
  for (const [index, layer] of layers.entries()) {
    const blob = await readAll(source.openBlob(layer))
    assert.equal(digestOf(blob), layer.digest, what)
    const tar = await readAll(decompress(streamOf(blob)))
    assert.ok(tars[index]?.equals(tar), what)
  }
  assert.equal(layers.length, tars.length)
}

describe('an archive of docker save', () => {
  test('an archive of docker save has layers in any compression', async () => {
    const skippable = Buffer.from('502a4d1803000000010203', 'hex')
    const packed: Readonly<Record<string, Buffer>> = {
      none: base,
      gzip: gzipSync(base),
      zstd: zstdCompressSync(base),
      'zstd after a skippable frame': Buffer.concat([skippable, zstdCompressSync(base)]),
      xz: readFileSync(packedBy('xz', folder, base)),
      bzip2: readFileSync(packedBy('bzip2', folder, base)),
    }
    for (const [what, data] of Object.entries(packed)) {
      const members = await open([
        { name: '1.tar', data },
        { name: '2.tar', data: top },
      ])
      await assertLayers(members, what)
      // A stream may come in small pieces.
      const stream: ArchiveFiles['stream'] = async function* stream(name, options) {
        for await (const chunk of members.stream(name, options))
          for (let at = 0; at < chunk.length; at += 3) yield chunk.subarray(at, at + 3)
      }
      await assertLayers({ ...members, stream }, `${what}, in pieces`)
    }
  })

  test('the last entry of a name counts in an archive, be it a file or a link', async () => {
    const file = (name: string, data: Buffer) => ({ name, data })
    const link = (name: string, linkName: string, type: 'symlink' | 'hardlink' = 'symlink') => ({
      name,
      linkName,
      type,
    })
    const archives: Readonly<Record<string, readonly BuildEntry[]>> = {
      'a file after a symlink': [link('1.tar', '2.tar'), file('1.tar', base), file('2.tar', top)],
      'a file after a hard link': [
        file('2.tar', top),
        link('1.tar', '2.tar', 'hardlink'),
        file('1.tar', base),
      ],
      'a symlink after a file': [file('1.tar', top), link('1.tar', 'x'), file('x', base), file('2.tar', top)],
      'a symlink after a symlink': [
        link('1.tar', '2.tar'),
        link('1.tar', 'x'),
        file('x', base),
        file('2.tar', top),
      ],
      'a file after a file': [file('1.tar', top), file('1.tar', base), file('2.tar', top)],
      'a hard link to a name that is another file later': [
        file('2.tar', base),
        link('1.tar', './2.tar', 'hardlink'),
        file('2.tar', top),
      ],
    }
    for (const [what, entries] of Object.entries(archives)) await assertLayers(await open(entries), what)
    const gone = await open([file('1.tar', base), { name: '1.tar', type: 'fifo' }, link('2.tar', '2.tar')])
    for (const name of ['1.tar', '2.tar']) assert.equal(gone.sizeOf(name), undefined, name)
  })
})
