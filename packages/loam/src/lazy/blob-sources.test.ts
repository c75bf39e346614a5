import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { digestOf, parseDiffId, storedReference } from '../image/index.ts'
import type { SourceOpener } from '../images/index.ts'
import { type LazySource, MetadataStore } from '../metadata/index.ts'
import { BlobSources } from './blob-sources.ts'

test('after a failure a layer is fetched by other names of its images, and never by one that only an archive gave', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'loam-blob-sources-'))
  try {
    const database = { lockFile: join(folder, 'lock') }
    using metadata = await MetadataStore.open(join(folder, 'metadata.db'), database)
    const diffId = parseDiffId(digestOf(Buffer.from('layer')))
    const put = async (image: string, layers: readonly string[], names: Readonly<Record<string, string>>) => {
      const digest = digestOf(Buffer.from(image))
      const record = {
        type: 'docker',
        ...{ digest, mediaType: 'x', configDigest: digest, chainId: undefined },
        ...{ platform: 'linux/amd64', sizeBytes: 1, created: undefined, pulledAtMs: 1, usedAtMs: 1 },
        isLocal: false,
        layers: layers.map((layer) => ({
          diffId: parseDiffId(digestOf(Buffer.from(layer))),
          ...{ blobDigest: digest, blobMediaType: 'x', blobBytes: 1 },
        })),
      } as const
      const given = Object.entries(names).map(([name, givenBy]) => ({
        ...{ reference: storedReference(name), targetDigest: digest, locations: [] },
        givenBy: givenBy as 'image' | 'location',
      }))
      await metadata.images.put(record, given)
    }
    await put('image', ['below', 'layer'], {
      'attacker.test/app:1': 'image',
      'mirror.test/app:1': 'location',
    })
    await put('other', ['below'], { 'other.test/app:1': 'location' })
    const opened: string[] = []
    const sources = {
      parse: (name: string) => ({ name }),
      with: async (name: string, _options: object, act: (source: object) => Promise<void>) => {
        opened.push(name)
        await act({})
      },
    }
    const blobs = new BlobSources(sources as unknown as SourceOpener, metadata)
    const source = { diffId, reference: 'registry.test/app:1' } as unknown as LazySource
    for (const tries of [0, 1, 2, 3]) await blobs.with(source, tries, async () => undefined)
    assert.deepEqual(new Set(opened), new Set(['registry.test/app:1', 'mirror.test/app:1']))
  } finally {
    rmSync(folder, { recursive: true })
  }
})
