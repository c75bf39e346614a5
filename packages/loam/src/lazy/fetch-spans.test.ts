import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isLoamError } from '../errors/index.ts'
import type { ImageSource } from '../sources/index.ts'
import { fetchSpans } from './fetch-spans.ts'
import type { ServedLayer } from './served-layer.ts'
import { SharedMemory } from './shared-memory.ts'

const BLOB = Buffer.from(Array.from({ length: 1000 }, (_, at) => (at * 7) % 251))
const STARTS = [0, 100, 101, 103, 400, 990]
const COUNT = STARTS.length

/** A blob whose spans are where its tar has them. */
function layerOf(access: 'random' | 'sequential', present: readonly number[] = []): ServedLayer {
  const tarStarts = Float64Array.from([...STARTS, BLOB.length])
  const layer = {
    diffId: 'sha256:0',
    source: { blob: { digest: 'sha256:0', sizeBytes: BLOB.length } },
    tarFd: 3,
    index: {},
    compression: 'none',
    access,
    present: Uint8Array.from({ length: COUNT }, (_, span) => (present.includes(span) ? 1 : 0)),
    spans: {
      count: COUNT,
      blobStarts: tarStarts,
      tarStarts,
      bits: new Uint8Array(COUNT),
      sums: Buffer.alloc(32 * COUNT),
    },
  }
  return layer as unknown as ServedLayer
}

/** A source that sends the first bytes of what it is asked for, in chunks of a size, whose memory the reader takes over. */
function sourceOf(chunkBytes: number, sentBytes = BLOB.length): ImageSource {
  const openBlob = async function* openBlob(
    _blob: unknown,
    { offset = 0, lengthBytes = BLOB.length }: { offset?: number; lengthBytes?: number },
  ) {
    const wanted = BLOB.subarray(offset, offset + Math.min(lengthBytes, sentBytes))
    for (let at = 0; at < wanted.length; at += chunkBytes) {
      const part = wanted.subarray(at, at + chunkBytes)
      const own = Buffer.allocUnsafeSlow(part.length)
      part.copy(own)
      yield own
    }
  }
  return { openBlob } as unknown as ImageSource
}

/** Returns what each span's job gets. */
async function fetched(
  source: ImageSource,
  layer: ServedLayer,
  { from, to }: { readonly from: number; readonly to: number },
): Promise<{ readonly jobs: Map<number, Buffer>; readonly firsts: number }> {
  const jobs = new Map<number, Buffer>()
  let firsts = 0
  await fetchSpans(source, layer, {
    ...{ from, to },
    memory: new SharedMemory(),
    run: async (job) => {
      assert.ok('bytes' in job && 'tarStart' in job)
      jobs.set(STARTS.indexOf(job.tarStart), Buffer.from(job.bytes))
      return { kind: 'here' }
    },
    onSpan: () => undefined,
    onFirst: () => {
      firsts += 1
    },
    signal: new AbortController().signal,
    onWhole: () => undefined,
  })
  return { jobs, firsts }
}

const endOf = (span: number) => STARTS[span + 1] ?? BLOB.length

describe('spans of a blob', () => {
  test('each span gets its bytes and the first one of the next span, however the stream is cut into chunks', async () => {
    const bytesOf = (span: number) => BLOB.subarray(STARTS[span], endOf(span) + 1)
    for (const chunkBytes of [1, 2, 3, 99, 100, 101, 102, 1000]) {
      const { jobs, firsts } = await fetched(sourceOf(chunkBytes), layerOf('random'), { from: 1, to: COUNT })
      const expected = new Map([1, 2, 3, 4, 5].map((span) => [span, bytesOf(span)]))
      assert.deepEqual(jobs, expected, `chunks of ${chunkBytes} bytes`)
      assert.equal(firsts, 1)
    }
  })

  test('a stream without checkpoints gives each span its own bytes, and passes over the spans that are here', async () => {
    for (const chunkBytes of [1, 50, 1000]) {
      const { jobs } = await fetched(sourceOf(chunkBytes), layerOf('sequential', [0, 2]), { from: 1, to: 2 })
      const expected = new Map([1, 3, 4, 5].map((span) => [span, BLOB.subarray(STARTS[span], endOf(span))]))
      assert.deepEqual(jobs, expected, `chunks of ${chunkBytes} bytes`)
    }
  })

  test('a stream that ends early fails, after the spans that it has brought', async () => {
    const fails = fetched(sourceOf(10, 200), layerOf('random'), { from: 0, to: 4 })
    await assert.rejects(fails, (error) => isLoamError(error, 'SIZE_MISMATCH'))
  })
})
