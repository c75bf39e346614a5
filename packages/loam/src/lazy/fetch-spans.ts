import { decompress } from '../compression/index.ts'
import { LoamError } from '../errors/index.ts'
import type { ImageSource } from '../sources/index.ts'
import type { SharedBytes, SharedMemory } from './shared-memory.ts'
import { lengthOf, type ServedLayer, sumOf } from './served-layer.ts'
import type { SpanJob, SpanOutcome, SpanPlace } from './span-jobs.ts'

/** Jobs of one run that threads may have at once: enough to keep them busy, and what is held of a blob. */
const MAX_JOBS = 4

export interface FetchOptions {
  /** First span, and the one after the last. */
  readonly from: number
  readonly to: number
  readonly run: (job: SpanJob) => Promise<SpanOutcome>
  readonly memory: SharedMemory
  readonly onSpan: (span: number, outcome: SpanOutcome) => void
  readonly signal: AbortSignal
  /** Called when the source cannot send a part of the blob. Undefined: the blob is fetched to its end, in order. */
  readonly onWhole?: (() => void) | undefined
}

/** Fetches adjacent spans by one request; those that are here by then are passed over. @throws the errors of the source */
export async function fetchSpans(
  source: ImageSource,
  layer: ServedLayer,
  options: FetchOptions,
): Promise<void> {
  const jobs = new Set<Promise<void>>()
  try {
    const made =
      layer.access === 'random' ? randomJobs(source, layer, options) : streamJobs(source, layer, options)
    for await (const { span, job } of made) {
      const doing = doJob(span, job, options)
      jobs.add(doing)
      void doing.finally(() => jobs.delete(doing))
      if (jobs.size >= MAX_JOBS) await Promise.race(jobs)
    }
  } finally {
    await Promise.all(jobs)
  }
}

async function doJob(
  span: number,
  job: SpanToDo['job'],
  { run, onSpan, memory }: FetchOptions,
): Promise<void> {
  const outcome = await run(job)
  memory.give(job.bytes)
  onSpan(span, outcome)
}

interface SpanToDo {
  readonly span: number
  readonly job: SpanJob & { readonly bytes: SharedBytes }
}

/** Each span can be decompressed as soon as its bytes are here, by itself. */
async function* randomJobs(
  source: ImageSource,
  layer: ServedLayer,
  options: FetchOptions,
): AsyncGenerator<SpanToDo> {
  const { spans, index, compression } = layer
  const { from, to, signal, onWhole, memory } = options
  const blobBytes = layer.source.blob.sizeBytes
  const start = spans.blobStarts[from] ?? 0
  // Its last bits may be in the first byte of the next span.
  const endOf = (span: number) => Math.min(blobBytes, (spans.blobStarts[span + 1] ?? blobBytes) + 1)
  const length = onWhole === undefined ? {} : { lengthBytes: endOf(to - 1) - start, onWhole }
  const window = new ByteWindow(start)
  let span = from
  for await (const chunk of source.openBlob(layer.source.blob, { offset: start, signal, ...length })) {
    window.push(chunk)
    for (; span < to && endOf(span) <= window.end; span += 1) {
      const blobStart = spans.blobStarts[span] ?? 0
      window.drop(blobStart)
      if (layer.present[span] === 1) continue
      const bytes = memory.take(endOf(span) - blobStart)
      window.copy(bytes)
      yield {
        span,
        job: {
          kind: 'fill',
          span,
          bytes,
          bit: spans.bits[span] ?? 0,
          compression,
          index,
          ...placeOf(layer, span),
        },
      }
    }
    if (span === to) return
  }
  throw endsEarly(layer)
}

/** Without checkpoints the blob is decompressed from its start. */
async function* streamJobs(
  source: ImageSource,
  layer: ServedLayer,
  options: FetchOptions,
): AsyncGenerator<SpanToDo> {
  const { spans } = layer
  const window = new ByteWindow(0)
  let span = 0
  for await (const chunk of decompress(readWhole(source, layer, options))) {
    window.push(chunk)
    for (; span < spans.count && (spans.tarStarts[span + 1] ?? 0) <= window.end; span += 1) {
      window.drop(spans.tarStarts[span] ?? 0)
      if (layer.present[span] === 1) continue
      const bytes = options.memory.take(lengthOf(spans, span))
      window.copy(bytes)
      yield { span, job: { kind: 'write', bytes, ...placeOf(layer, span) } }
    }
    if (span === spans.count) return
  }
  throw endsEarly(layer)
}

async function* readWhole(
  source: ImageSource,
  layer: ServedLayer,
  { signal }: FetchOptions,
): AsyncGenerator<Buffer> {
  // A copy: who decompresses takes its chunks over.
  for await (const chunk of source.openBlob(layer.source.blob, { signal })) yield Buffer.from(chunk)
}

/** Returns where a span is, for a job. */
export function placeOf(layer: ServedLayer, span: number): SpanPlace {
  const { tarFd, spans } = layer
  const tarStart = spans.tarStarts[span] ?? 0
  return { fd: tarFd, tarStart, lengthBytes: lengthOf(spans, span), sum: sumOf(spans, span) }
}

function endsEarly({ diffId, source }: ServedLayer): LoamError {
  return new LoamError('SIZE_MISMATCH', `fill layer ${diffId}: blob ${source.blob.digest} ends early`)
}

/** The part of a stream that is still needed. */
class ByteWindow {
  readonly #chunks: Buffer[] = []
  #start: number
  #end: number

  constructor(start: number) {
    this.#start = start
    this.#end = start
  }

  /** The place after the last byte. */
  get end(): number {
    return this.#end
  }

  push(chunk: Buffer): void {
    this.#chunks.push(chunk)
    this.#end += chunk.length
  }

  /** Forgets the bytes before a place. */
  drop(place: number): void {
    while (this.#start < place) {
      const [first] = this.#chunks
      if (first === undefined) return
      const count = Math.min(place - this.#start, first.length)
      if (count === first.length) this.#chunks.shift()
      else this.#chunks[0] = first.subarray(count)
      this.#start += count
    }
  }

  /** Copies the first bytes. */
  copy(target: Uint8Array): void {
    let at = 0
    for (const chunk of this.#chunks) {
      if (at === target.length) break
      const part = chunk.subarray(0, target.length - at)
      target.set(part, at)
      at += part.length
    }
  }
}
