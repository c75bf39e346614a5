import assert from 'node:assert/strict'
import { openSync } from 'node:fs'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, test, type TestContext } from 'node:test'
import { LoamError } from '../errors/index.ts'
import { ALLOW_READ, FAIL_READ, type ReadAnswer } from '../linux/index.ts'
import type { ImageSource } from '../sources/index.ts'
import type { ServedLayer } from './served-layer.ts'
import { SpanFiller } from './span-filler.ts'
import type { SpanOutcome } from './span-jobs.ts'
import { WaitingReads } from './waiting-reads.ts'

const SPAN_BYTES = 100
const SPANS = 12
const DEV_NULL = openSync('/dev/null', 'w')

/** A layer whose blob is its tar, and can be fetched in order only. */
function layerOf(name: string): ServedLayer {
  const tarStarts = Float64Array.from({ length: SPANS + 1 }, (_, span) => span * SPAN_BYTES)
  const layer = {
    diffId: `sha256:${name}`,
    host: name,
    source: { blob: { digest: 'sha256:0', sizeBytes: SPANS * SPAN_BYTES } },
    mapFd: DEV_NULL,
    compression: 'none',
    access: 'sequential',
    present: new Uint8Array(new SharedArrayBuffer(SPANS)),
    claimed: new Set(),
    missing: SPANS,
    presentBytes: 0,
    spans: { count: SPANS, blobStarts: tarStarts, tarStarts, bits: [], sums: Buffer.alloc(32 * SPANS) },
  }
  return layer as unknown as ServedLayer
}

/** A filler whose clock, source and disk the test sets. */
class FillerWorld {
  readonly #times = new Map<string, number[]>()
  readonly answers: ReadAnswer[] = []
  readonly filler: SpanFiller
  /** What comes of a span. */
  outcomeOf: (layer: string, span: number) => SpanOutcome = () => ({ kind: 'here' })
  /** How long each span takes. */
  spanMs = 0
  isSilent = false
  /** The span before which the connection ends. */
  endsAt = SPANS
  readonly tries: number[] = []
  #now = 0
  readonly #test: TestContext
  readonly #waiting = new WaitingReads((_read, answer) => this.answers.push(answer))

  constructor(t: TestContext, stallTimeoutMs = 0) {
    this.#test = t
    t.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] })
    t.mock.method(performance, 'now', () => this.#now)
    this.filler = new SpanFiller({
      waiting: this.#waiting,
      threads: {
        run: async (job) => {
          assert.ok(job.kind === 'write')
          return this.outcomeOf(Buffer.from(job.bytes).toString('latin1', 0, 1), job.tarStart / SPAN_BYTES)
        },
      },
      withSource: async ({ host }, tries, act) => {
        this.tries.push(tries)
        const times = this.#times.get(host) ?? []
        this.#times.set(host, [...times, this.#now])
        return act(this.#sourceOf(host))
      },
      stallTimeoutMs,
      onFilled: () => undefined,
      onProgress: () => undefined,
      onGivenUp: () => undefined,
    })
  }

  #sourceOf(name: string): ImageSource {
    const spanMs = () => this.spanMs
    const isSilent = () => this.isSilent
    const endsAt = () => this.endsAt
    const openBlob = async function* openBlob(_blob: unknown, { signal }: { signal: AbortSignal }) {
      const aborted = new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason as Error))
      })
      aborted.catch(() => undefined)
      for (let span = 0; span < SPANS; span += 1) {
        if (isSilent()) await aborted
        if (span === endsAt()) throw new LoamError('REGISTRY_UNREACHABLE', 'the connection ended')
        if (spanMs() > 0)
          await Promise.race([aborted, new Promise((resolve) => setTimeout(resolve, spanMs()))])
        const bytes = Buffer.allocUnsafeSlow(SPAN_BYTES)
        yield bytes.fill(name)
      }
    }
    return { openBlob } as unknown as ImageSource
  }

  /** Lets time pass. */
  async pass(ms: number): Promise<void> {
    for (const end = this.#now + ms; this.#now < end; ) {
      this.#now += 50
      this.#test.mock.timers.tick(50)
      for (let turn = 0; turn < 4; turn += 1) await nextTurn()
    }
  }

  /** Seconds between the begins of the downloads of a layer, rounded. */
  gaps(name: string): number[] {
    const times = this.#times.get(name) ?? []
    return times.slice(1).map((time, at) => Math.round((time - (times[at] ?? 0)) / 1000))
  }

  /** Begins to read a span. */
  read(layer: ServedLayer, span: number): void {
    const needs = [{ layer: layer.diffId, from: span, to: span + 1 }]
    this.filler.read({ slot: 0, fd: 1000 + span, needs, isOrphan: false } as never)
  }
}

describe('filling layers', () => {
  test('spans that stay wrong are fetched again after pauses that grow, however many they are and however long a download takes', async (t) => {
    for (const spanMs of [0, 6000]) {
      await t.test(`${spanMs} ms for each span`, async (inner) => {
        const world = new FillerWorld(inner)
        world.spanMs = spanMs
        // Some are right at first, and some later.
        const rounds = new Map<number, number>()
        world.outcomeOf = (_layer, span) => {
          const round = (rounds.get(span) ?? 0) + 1
          rounds.set(span, round)
          return span % 3 === 0 || (span === 4 && round > 4)
            ? { kind: 'here' }
            : { kind: 'wrong', why: 'its sum differs' }
        }
        const layer = layerOf('a')
        world.filler.add(layer, [])
        await world.pass(1_200_000)
        const downloadS = (spanMs * SPANS) / 1000
        const pauses = world.gaps('a').map((gap) => gap - downloadS)
        assert.deepEqual(pauses.slice(2, 9), [1, 2, 4, 8, 16, 32, 60])
        assert.ok(
          pauses.slice(9).every((pause) => pause === 60),
          String(pauses),
        )
        assert.equal(world.filler.failureOf(layer)?.code, 'DIGEST_MISMATCH')
        world.read(layer, 1)
        await world.pass(100_000)
        assert.deepEqual(world.answers, [FAIL_READ])
        world.outcomeOf = () => ({ kind: 'here' })
        await world.pass(200_000)
        assert.equal(layer.missing, 0)
        world.read(layer, 1)
        assert.deepEqual(world.answers, [FAIL_READ, ALLOW_READ])
      })
    }
  })

  test('after wrong bytes alone the next try is another one for the sources', async (t) => {
    const world = new FillerWorld(t)
    world.outcomeOf = () => ({ kind: 'wrong', why: 'its sum differs' })
    world.filler.add(layerOf('a'), [])
    await world.pass(2000)
    assert.deepEqual(world.tries, [0, 1, 2, 3])
  })

  test('a run that brings wrong bytes and then fails is one failure, so that the sources have turns', async (t) => {
    const world = new FillerWorld(t)
    world.outcomeOf = () => ({ kind: 'wrong', why: 'its sum differs' })
    world.endsAt = 4
    world.filler.add(layerOf('a'), [])
    await world.pass(2000)
    assert.deepEqual(world.tries, [0, 1, 2, 3, 4])
  })

  test('a full disk ends downloads, and lets reads of all layers fail for pauses that grow', async (t) => {
    const world = new FillerWorld(t)
    world.spanMs = 1000
    world.outcomeOf = (layer) => ({ kind: layer === 'a' ? 'full' : 'here' })
    const [full, other] = [layerOf('a'), layerOf('b')]
    world.filler.add(full, [])
    world.filler.add(other, [])
    world.read(full, 3)
    world.read(other, 11)
    await world.pass(1200)
    assert.deepEqual(world.answers, [FAIL_READ, FAIL_READ])
    world.read(full, 3)
    assert.deepEqual(world.answers, [FAIL_READ, FAIL_READ, FAIL_READ])
    await world.pass(30_000)
    // A second until the first span, and the pause.
    assert.deepEqual(world.gaps('a').slice(0, 5), [2, 3, 5, 6, 6])
    assert.equal(world.filler.failureOf(full)?.code, 'NO_SPACE')
    world.outcomeOf = () => ({ kind: 'here' })
    await world.pass(30_000)
    assert.deepEqual([full.missing, other.missing], [0, 0])
  })

  test('when a read has waited for too long, further ones of the layer fail at once for a second, and then wait again', async (t) => {
    const world = new FillerWorld(t, 4000)
    world.isSilent = true
    const layer = layerOf('a')
    world.filler.add(layer, [])
    world.read(layer, 3)
    await world.pass(3500)
    assert.deepEqual(world.answers, [])
    await world.pass(1000)
    assert.deepEqual(world.answers, [FAIL_READ])
    world.read(layer, 4)
    assert.deepEqual(world.answers, [FAIL_READ, FAIL_READ])
    await world.pass(1000)
    world.read(layer, 5)
    assert.deepEqual(world.answers, [FAIL_READ, FAIL_READ])
  })
})
