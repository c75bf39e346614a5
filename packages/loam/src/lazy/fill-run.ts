import { LoamError, toLoamError } from '../errors/index.ts'
import type { ImageSource } from '../sources/index.ts'
import { fetchSpans, placeOf } from './fetch-spans.ts'
import { missingParts, type ServedLayer } from './served-layer.ts'
import type { SharedMemory } from './shared-memory.ts'
import type { SpanJob, SpanOutcome } from './span-jobs.ts'

export interface FillRunOptions {
  /** The first span, and the one after the last. */
  readonly from: number
  readonly to: number
  /** Whether all is fetched by one request, to the end of the blob: for registries without ranges, and blobs without checkpoints. */
  readonly isInOrder: boolean
  readonly run: (job: SpanJob) => Promise<SpanOutcome>
  readonly memory: SharedMemory
  readonly withSource: (act: (source: ImageSource) => Promise<void>) => Promise<void>
  /** Called for each span whose bytes are right and written. */
  readonly onHere: (span: number) => void
  /** Called when the bytes of the first span have come. */
  readonly onFirst?: (() => void) | undefined
  readonly signal: AbortSignal
}

/** What came of a run, besides the spans that are here. */
export interface FillRunResult {
  /** Spans whose bytes were wrong, and why. */
  readonly wrong: ReadonlyMap<number, string>
  readonly hasArrived: boolean
  /** What has ended the run. */
  readonly failure: LoamError | undefined
  /** Whether the source cannot send a part of the blob. */
  readonly mustBeInOrder: boolean
}

/** Fills adjacent spans of a layer. Never throws. A run ends at the first span that the disk has no room for, or that cannot be written. */
export async function fillRun(layer: ServedLayer, options: FillRunOptions): Promise<FillRunResult> {
  const { from, to, isInOrder, run, memory, withSource, onFirst } = options
  const wrong = new Map<number, string>()
  const stop = new AbortController()
  const signal = AbortSignal.any([options.signal, stop.signal])
  let hasArrived = false
  let failure: LoamError | undefined
  let mustBeInOrder = false
  const onSpan = (span: number, outcome: SpanOutcome) => {
    if (outcome.kind === 'here') {
      hasArrived = true
      options.onHere(span)
    } else if (outcome.kind === 'wrong') wrong.set(span, outcome.why)
    else {
      failure ??= failureOf(layer, outcome)
      stop.abort()
    }
  }
  const onWhole = () => {
    mustBeInOrder = true
    stop.abort()
  }
  try {
    await checkClaims(layer, options, onSpan)
    const parts = isInOrder && layer.missing > 0 ? [{ from, to }] : missingParts(layer, from, to)
    const asked = isInOrder ? {} : { onWhole }
    for (const part of parts)
      await withSource(async (source) =>
        fetchSpans(source, layer, { ...part, ...asked, run, memory, onSpan, onFirst, signal }),
      )
  } catch (error) {
    if (!mustBeInOrder) failure ??= toLoamError(error, `fill layer ${layer.diffId}`)
  }
  return { wrong, hasArrived, failure, mustBeInOrder }
}

/** Creates the error for a layer whose spans have no room. */
export function fullDisk({ diffId }: ServedLayer): LoamError {
  return new LoamError('NO_SPACE', `fill layer ${diffId}: the disk is full`)
}

function failureOf(layer: ServedLayer, outcome: SpanOutcome): LoamError {
  if (outcome.kind === 'full') return fullDisk(layer)
  const why = 'why' in outcome ? outcome.why : outcome.kind
  return toLoamError(new Error(why), `fill layer ${layer.diffId}`)
}

/** What an earlier boot has claimed is here if it has its sum. */
async function checkClaims(
  layer: ServedLayer,
  { from, to, run }: FillRunOptions,
  onSpan: (span: number, outcome: SpanOutcome) => void,
): Promise<void> {
  const claimed = Array.from({ length: to - from }, (_, index) => from + index).filter((span) =>
    layer.claimed.has(span),
  )
  await Promise.all(
    claimed.map(async (span) => {
      const outcome = await run({ kind: 'check', ...placeOf(layer, span) })
      layer.claimed.delete(span)
      if (outcome.kind === 'here') onSpan(span, outcome)
    }),
  )
}
