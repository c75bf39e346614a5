import assert from 'node:assert/strict'
import { test } from 'node:test'
import { digestOf, parseDiffId } from '../image/index.ts'
import type { SourceOpener } from '../images/index.ts'
import type { LazySource, MetadataStore } from '../metadata/index.ts'
import { BlobSources } from './blob-sources.ts'

test('after a failure a layer is fetched by other names of its images, and never by one that only an archive gave', async () => {
  const digest = digestOf(Buffer.from('image'))
  const diffId = parseDiffId(digestOf(Buffer.from('layer')))
  const images = {
    list: () => [{ digest, layers: [{ diffId }] }],
    listNames: () => [
      { imageDigest: digest, reference: 'attacker.test/app', origin: { givenBy: 'image' } },
      { imageDigest: digest, reference: 'mirror.test/app', origin: { givenBy: 'location' } },
    ],
  }
  const opened: string[] = []
  const sources = {
    parse: (name: string) => ({ name }),
    with: async (name: string, _options: object, act: (source: object) => Promise<void>) => {
      opened.push(name)
      await act({})
    },
  }
  const blobs = new BlobSources(sources as unknown as SourceOpener, { images } as unknown as MetadataStore)
  const source = { diffId, reference: 'registry.test/app' } as unknown as LazySource
  for (const tries of [0, 1, 2, 3]) await blobs.with(source, tries, async () => undefined)
  assert.deepEqual(new Set(opened), new Set(['registry.test/app', 'mirror.test/app']))
})
