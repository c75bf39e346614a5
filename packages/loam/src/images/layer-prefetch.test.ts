import assert from 'node:assert/strict'
import { test } from 'node:test'
import { digestOf, parseDiffId } from '../image/index.ts'
import type { ImageRecord } from '../metadata/index.ts'
import type { ImageSession } from './image-sessions.ts'
import { LayerPrefetch, type PrefetchServices } from './layer-prefetch.ts'

test('the partial layers below one that a client requests are leased by the plan of its image, before a snapshot shows them', async () => {
  const layerOf = (name: string) => ({ diffId: parseDiffId(digestOf(Buffer.from(name))) })
  const [complete, partial, wanted, above] = ['complete', 'partial', 'wanted', 'above'].map(layerOf)
  const image = { layers: [complete, partial, wanted, above] } as unknown as ImageRecord
  const plan = { indexes: new Map(), why: undefined, trusts: () => false }
  const leased: unknown[] = []
  const lease = { release: () => leased.push('released') }
  const services = {
    settings: { lazy_pull: 'auto' },
    layers: {
      partial: {
        sourceOf: (diffId: string) =>
          diffId === partial?.diffId || diffId === above?.diffId ? {} : undefined,
      },
      sync: async () => undefined,
    },
    stores: {
      docker: {
        planLazily: async () => plan,
        leaseLayer: async (_source: unknown, layer: unknown, options: { plan: unknown }) => {
          leased.push(layer, options.plan)
          return lease
        },
      },
    },
    onPulled: () => undefined,
  } as unknown as PrefetchServices
  const session = { with: async (act: (source: object) => unknown) => act({}) } as unknown as ImageSession
  await using prefetch = new LayerPrefetch(services)
  assert.ok(wanted !== undefined)
  await prefetch.admit(session, { image, layer: image.layers[2] ?? assert.fail() })
  assert.deepEqual(leased, [partial, plan, 'released'])
})
