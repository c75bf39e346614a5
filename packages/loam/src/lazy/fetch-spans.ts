import { decompress, releaseChunk } from '../compression/index.ts'
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
  /** Called when the bytes of the first span have come. */
  readonly onFirst?: (() => void) | undefined
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
      if (span === options.from) options.onFirst?.()
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
  const { from, to, signal, onWhole } = options
  const blobBytes = layer.source.blob.sizeBytes
  const startOf = (span: number) => spans.blobStarts[span] ?? 0
  // Its last bits may be in the first byte of the next span.
  const endOf = (span: number) => Math.min(blobBytes, (spans.blobStarts[span + 1] ?? blobBytes) + 1)
  const offset = startOf(from)
  const length = onWhole === undefined ? {} : { lengthBytes: endOf(to - 1) - offset, onWhole }
  const chunks = source.openBlob(layer.source.blob, { offset, signal, ...length })
  for await (const { span, bytes } of cutIntoSpans(chunks, layer, options, { from, to, startOf, endOf })) {
    const bit = spans.bits[span] ?? 0
    yield { span, job: { kind: 'fill', span, bytes, bit, compression, index, ...placeOf(layer, span) } }
  }
}

/** Without checkpoints the blob is decompressed from its start. */
async function* streamJobs(
  source: ImageSource,
  layer: ServedLayer,
  options: FetchOptions,
): AsyncGenerator<SpanToDo> {
  const { count, tarStarts } = layer.spans
  const startOf = (span: number) => tarStarts[span] ?? 0
  const endOf = (span: number) => tarStarts[span + 1] ?? 0
  const chunks = decompress(source.openBlob(layer.source.blob, { signal: options.signal }))
  const all = { from: 0, to: count, startOf, endOf }
  for await (const { span, bytes } of cutIntoSpans(chunks, layer, options, all))
    yield { span, job: { kind: 'write', bytes, ...placeOf(layer, span) } }
}

/** Adjacent spans, and where each is in a stream. The next one begins where one ends, or at its last byte. */
interface StreamSpans {
  readonly from: number
  readonly to: number
  readonly startOf: (span: number) => number
  readonly endOf: (span: number) => number
}

/**
 * Copies a stream that begins with the first of the spans into memory for each span, and releases its chunks. Spans that are here by then are passed over.
 * @throws SIZE_MISMATCH, the errors of the stream
 */
async function* cutIntoSpans(
  chunks: AsyncIterable<Buffer>,
  layer: ServedLayer,
  { memory }: FetchOptions,
  { from, to, startOf, endOf }: StreamSpans,
): AsyncGenerator<{ readonly span: number; readonly bytes: SharedBytes }> {
  let span = from
  let bytes: SharedBytes | undefined
  let start = startOf(from)
  for await (const chunk of chunks) {
    const end = start + chunk.length
    while (span < to) {
      const spanStart = startOf(span)
      const spanEnd = endOf(span)
      bytes ??= memory.take(spanEnd - spanStart)
      const first = Math.max(start, spanStart)
      bytes.set(chunk.subarray(first - start, Math.min(end, spanEnd) - start), first - spanStart)
      if (spanEnd > end) break
      const whole = { span, bytes }
      span += 1
      bytes = undefined
      if (layer.present[whole.span] === 1) memory.give(whole.bytes)
      else yield whole
    }
    start = end
    releaseChunk(chunk)
    if (span === to) return
  }
  throw endsEarly(layer)
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
