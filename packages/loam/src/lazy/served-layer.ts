import { closeSync, constants, fstatSync, openSync } from 'node:fs'
import { artifactPath, layerPath, LAZY_INDEX_NAME, SPAN_MAP_NAME, type StorePaths } from '../content/index.ts'
import { LoamError } from '../errors/index.ts'
import { type DiffId, digestOf } from '../image/index.ts'
import { openSpanMap, SPAN_CLAIMED, SPAN_HERE } from '../layers/index.ts'
import { type BlobAccess, readLazyIndex, type SpanTable } from '../lazy-index/index.ts'
import { readStored } from '../linux/index.ts'
import type { SpanCompression } from '../compression/index.ts'
import type { LazySource } from '../metadata/index.ts'
import type { LayerLimits } from '../tree/index.ts'
import { join } from 'node:path'
import { spansOf } from './shared-reads.ts'
import type { IndexFile } from './span-jobs.ts'
import type { NeededSpans } from './waiting-reads.ts'

/** A partial layer whose reads are answered. */
export interface ServedLayer {
  readonly diffId: DiffId
  readonly source: LazySource
  /** Where its data comes from first: the host of a registry, or the kind of another source. */
  readonly host: string
  readonly inode: number
  /** Descriptor of the tar from before its mark: reads and writes through it wait for nobody. */
  readonly tarFd: number
  /** Descriptor of the span map. */
  readonly mapFd: number
  readonly mapPath: string
  readonly index: IndexFile
  readonly tarBytes: number
  readonly spans: SpanTable
  readonly tarStarts: Float64Array<SharedArrayBuffer>
  /** 1 for spans that are here; shared with the event thread. */
  readonly present: Uint8Array<SharedArrayBuffer>
  /** Spans that an earlier boot has claimed. */
  readonly claimed: Set<number>
  readonly compression: SpanCompression
  readonly access: BlobAccess
  missing: number
  presentBytes: number
}

export interface OpenLayerOptions {
  readonly paths: StorePaths
  readonly limits: LayerLimits
  readonly bootId: string
  /** Descriptor of the tar from an earlier process; the caller closes it on failure. */
  readonly tarFd?: number | undefined
}

/** Opens the files of a partial layer. Nothing that it opened stays open on failure. @throws LAZY_INDEX_INVALID, LAYER_DAMAGED, system errors */
export function openServedLayer(
  source: LazySource,
  { paths, limits, bootId, tarFd }: OpenLayerOptions,
): ServedLayer {
  const { diffId } = source
  const folder = layerPath(paths, diffId)
  const path = join(folder, LAZY_INDEX_NAME)
  const mapPath = join(folder, SPAN_MAP_NAME)
  const fd = tarFd ?? openSync(artifactPath(paths, diffId, 'tar'), constants.O_RDWR)
  try {
    const bytes = readStored(path)
    const index = { path, digest: digestOf(bytes) }
    const { tarBytes, spans, compression, access, ...of } = readLazyIndex(bytes, limits)
    const { ino, size } = fstatSync(fd)
    const isOfLayer = of.diffId === diffId && of.blob.digest === source.blob.digest && size === tarBytes
    // The tree that is shown was made from the index that the row names.
    if (!isOfLayer || index.digest !== source.indexDigest)
      throw new LoamError(
        'LAYER_DAMAGED',
        `serve layer ${diffId}: its tar and its lazy index do not belong together`,
      )
    const { states, fd: mapFd } = openSpanMap(mapPath, spans.count, bootId)
    const present = new Uint8Array(new SharedArrayBuffer(spans.count))
    present.set(states.map((state) => (state === SPAN_HERE ? 1 : 0)))
    const tarStarts = new Float64Array(new SharedArrayBuffer(spans.tarStarts.byteLength))
    tarStarts.set(spans.tarStarts)
    const claimed = new Set([...states.keys()].filter((span) => states[span] === SPAN_CLAIMED))
    const layer = {
      diffId,
      source,
      host: source.reference.split('/', 1)[0] ?? '',
      inode: ino,
      tarFd: fd,
      mapFd,
      mapPath,
      index,
      tarBytes,
      spans,
      tarStarts,
      present,
    }
    const here = [...present.keys()].filter((span) => present[span] === 1)
    const presentBytes = here.reduce((sum, span) => sum + lengthOf(spans, span), 0)
    return { ...layer, claimed, compression, access, presentBytes, missing: spans.count - here.length }
  } catch (error) {
    if (tarFd === undefined) closeSync(fd)
    throw error
  }
}

/** Closes the descriptors of a layer. */
export function closeServedLayer({ tarFd, mapFd }: ServedLayer): void {
  closeSync(tarFd)
  closeSync(mapFd)
}

/** Returns the size of a span. */
export function lengthOf({ tarStarts }: Pick<SpanTable, 'tarStarts'>, span: number): number {
  return (tarStarts[span + 1] ?? 0) - (tarStarts[span] ?? 0)
}

/** Returns the sum of a span. */
export function sumOf({ sums }: SpanTable, span: number): Uint8Array {
  return Uint8Array.from(sums.subarray(span * 32, span * 32 + 32))
}

/** Returns the spans of a range that are not here, as ranges. */
export function missingParts(layer: ServedLayer, from: number, to: number): { from: number; to: number }[] {
  const parts: { from: number; to: number }[] = []
  for (let span = from; span < to; span += 1) {
    if (layer.present[span] === 1) continue
    const last = parts.at(-1)
    if (last?.to === span) last.to = span + 1
    else parts.push({ from: span, to: span + 1 })
  }
  return parts
}

/** Takes nothing of a layer for granted: each span counts once it has the sum that it has to have. */
export function claimAll(layer: ServedLayer): void {
  for (const span of layer.present.keys()) layer.claimed.add(span)
  dropAll(layer)
}

/** Nothing of a layer is here any more. */
export function dropAll(layer: ServedLayer): void {
  for (const span of layer.present.keys()) Atomics.store(layer.present, span, 0)
  layer.missing = layer.present.length
  layer.presentBytes = 0
}

/** Returns the spans that a read of a layer needs. */
export function neededOf({ diffId, tarStarts }: ServedLayer, offset: number, count: number): NeededSpans {
  const [from, to] = spansOf(tarStarts, offset, count)
  return { layer: diffId, from, to }
}
