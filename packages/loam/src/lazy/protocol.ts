/*
 * The control socket of the handler: a connection is one request, a line of JSON, and its answers, a line of JSON each, of which the last is
 * `done` or `failed`. Who closes the connection cancels the request.
 *
 * A handler outlives the program that started it, and its update: an answer may be that of an older version or of a newer one. A field that was added
 * later is optional, with a value for handlers that do not send it, and unknown fields are ignored.
 */
import * as v from 'valibot'
import type { DiffId } from '../image/index.ts'

const diffIds = v.array(v.pipe(v.string(), v.regex(/^sha256:[0-9a-f]{64}$/)))

const REQUEST = v.variant('op', [
  v.strictObject({ op: v.literal('serve'), diffIds }),
  v.strictObject({ op: v.literal('complete'), diffIds }),
  v.strictObject({ op: v.literal('forget'), diffIds }),
  v.strictObject({ op: v.literal('status') }),
  /** Keeps the handler running until the connection is closed, and gets its events. */
  v.strictObject({ op: v.literal('hold') }),
])

const COUNT = v.number()
const LAYER_STATUS = v.object({
  diffId: v.string(),
  presentBytes: COUNT,
  totalBytes: COUNT,
  waiting: COUNT,
  /** Why its data does not come: the last failure. */
  failure: v.nullable(v.string()),
})
const STATUS = v.object({
  pid: COUNT,
  layers: v.array(LAYER_STATUS),
  /** Mount points that may have shown wrong data, and were unmounted. */
  poisoned: v.array(v.string()),
  events: COUNT,
  misses: COUNT,
  /** Reads that the kernel has refused, because the process had no descriptor for them. */
  refused: v.optional(COUNT, 0),
  /** Reads that have waited, by the classes of `WAIT_BOUNDS`; the last count is of those above. */
  waits: v.optional(v.object({ counts: v.array(COUNT), sumSeconds: COUNT }), { counts: [], sumSeconds: 0 }),
  failedReads: COUNT,
  bytesOnDemand: COUNT,
  bytesAhead: COUNT,
  rssBytes: COUNT,
})
/** A layer whose lazy index has turned out to be wrong. */
const DENIED = v.object({
  diffId: v.string(),
  indexDigest: v.string(),
  reason: v.string(),
  /** Containers and snapshots that show the layer. */
  containers: v.array(v.string()),
  snapshots: v.array(v.string()),
})
const ANSWER = v.variant('kind', [
  v.object({ kind: v.literal('progress'), presentBytes: COUNT, totalBytes: COUNT }),
  v.object({ kind: v.literal('done') }),
  v.object({ kind: v.literal('status'), status: STATUS }),
  /** To those that hold the handler. */
  v.object({ kind: v.literal('denied'), denied: DENIED }),
  v.object({ kind: v.literal('failed'), code: v.string(), message: v.string() }),
])

export type LazyRequest =
  | { readonly op: 'serve' | 'complete' | 'forget'; readonly diffIds: readonly DiffId[] }
  | { readonly op: 'status' | 'hold' }

export type LazyStatus = Readonly<v.InferOutput<typeof STATUS>>
export type DeniedLayer = Readonly<v.InferOutput<typeof DENIED>>
export type LazyAnswer = Readonly<v.InferOutput<typeof ANSWER>>

/** Longest line of either side: a thousand layers in a request. */
export const MAX_LINE_BYTES = 1 << 20

/** Reads a request. @throws valibot's error */
export function parseLazyRequest(line: string): LazyRequest {
  return v.parse(REQUEST, JSON.parse(line)) as LazyRequest
}

/** Reads an answer. @throws valibot's error */
export function parseLazyAnswer(line: string): LazyAnswer {
  return v.parse(ANSWER, JSON.parse(line))
}

/** Splits text into its complete lines; `rest` is the begin of the next one. */
export function splitLines(text: string): { readonly lines: readonly string[]; readonly rest: string } {
  const lines = text.split('\n')
  return { rest: lines.pop() ?? '', lines }
}
