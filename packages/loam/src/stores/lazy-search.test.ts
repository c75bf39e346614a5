import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { LayerStore } from '../layers/index.ts'
import type { ImageRecord } from '../metadata/index.ts'
import { parseDigest } from '../image/index.ts'
import type { ImageSource } from '../sources/index.ts'
import { LazyPull } from './lazy-pull.ts'

const digest = parseDigest(`sha256:${'1'.repeat(64)}`)
const source = { name: 'registry.test/image:1', isRemote: true } as ImageSource

/** A search that ends only when it is told to, and what it was told. */
function search(never?: string) {
  const signals: (AbortSignal | undefined)[] = []
  const layers = {
    partial: { whyNever: () => never, sourceOf: () => undefined },
    isHereLazily: () => true,
  } as unknown as LayerStore
  const find = async (
    _source: ImageSource,
    _image: object,
    { signal }: { signal?: AbortSignal | undefined },
  ) => {
    signals.push(signal)
    await new Promise((_resolve, reject) => {
      signal?.addEventListener('abort', () => {
        reject(signal.reason as Error)
      })
    })
    return { kind: 'none', why: '' } as const
  }
  return {
    pull: new LazyPull(source, {
      layers,
      find,
      annotationsOf: undefined,
      trustsStill: () => true,
      whyEager: undefined,
      retainsBlobs: false,
    }),
    signals,
  }
}

test('a pull that ends early ends the search for lazy indexes with its requests', () => {
  const { pull, signals } = search()
  pull.begin(digest, {})
  assert.equal(signals[0]?.aborted, false)
  pull[Symbol.dispose]()
  assert.equal(signals[0]?.aborted, true)
})

test('an image whose layers are all here ends the search', async () => {
  const { pull, signals } = search()
  pull.begin(digest, {})
  const image = { digest, layers: [{ diffId: digest }] } as unknown as ImageRecord
  const { why, indexes } = await pull.plan(image, {})
  assert.deepEqual([why, indexes.size], [undefined, 0])
  assert.equal(signals[0]?.aborted, true)
})

test('no lazy index is looked for on a machine that can never use one', () => {
  const { pull, signals } = search('only root of the machine may let reads wait')
  pull.begin(digest, {})
  assert.deepEqual(signals, [])
})
