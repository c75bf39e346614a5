import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { layerPath, LAZY_INDEX_NAME, lockPath, SPAN_MAP_NAME, TAR_NAME } from '../content/index.ts'
import { faultOfFile, throwIfAborted, toLoamError } from '../errors/index.ts'
import { type DiffId, digestOf } from '../image/index.ts'
import { readLazyIndex } from '../lazy-index/index.ts'
import { FileLock, readStored } from '../linux/index.ts'
import type { LazySource } from '../metadata/index.ts'
import type { LayerLimits } from '../tree/index.ts'
import { sizeOf } from './file-state.ts'
import type { PartialLayers, PartialLayersOptions } from './partial-layers.ts'
import { readSpanMap, recordSpan, SPAN_HERE, SPAN_MISSING } from './span-map.ts'
import type { LayerWorkers } from './worker-pool.ts'

/** What is wrong with a partial layer. */
export interface PartialDamage {
  /** As a sentence. */
  readonly problem: string
  /** `refetch`: the layer has to be fetched. Otherwise repairs it, and returns what was done. @throws LAYER_DAMAGED while it is in use */
  readonly repair: 'refetch' | (() => Promise<string>)
}

export interface PartialCheckParts extends Pick<PartialLayersOptions, 'paths' | 'metadata' | 'bootId'> {
  readonly workers: LayerWorkers
  readonly limits: LayerLimits
  readonly partial: PartialLayers
}

/** What is wrong, if something is, and how many bytes were hashed. */
export interface CheckedPartial {
  readonly damage: PartialDamage | undefined
  readonly hashedBytes: number
}

/**
 * Checks the index of a partial layer, and the spans that this boot has recorded; those of another boot are verified before they count. Files that cannot be
 * read are damaged.
 */
export async function checkPartial(
  parts: PartialCheckParts,
  source: LazySource,
  signal: AbortSignal | undefined,
): Promise<CheckedPartial> {
  try {
    return await checkFiles(parts, source, signal)
  } catch (error) {
    const fault = faultOfFile(error)
    if (fault === undefined) throw error
    return wrong(`one of its files cannot be read (${fault})`)
  }
}

function wrong(problem: string): CheckedPartial {
  return { damage: { problem, repair: 'refetch' }, hashedBytes: 0 }
}

async function checkFiles(
  parts: PartialCheckParts,
  source: LazySource,
  signal: AbortSignal | undefined,
): Promise<CheckedPartial> {
  const { paths, metadata, bootId, workers, limits, partial } = parts
  const { diffId, indexDigest } = source
  const pathOf = (name: string) => join(layerPath(paths, diffId), name)
  const denial = metadata.layers.denialOf(indexDigest)
  if (denial !== undefined) return wrong(`its lazy index was denied: ${denial}`)
  const indexPath = pathOf(LAZY_INDEX_NAME)
  if (sizeOf(indexPath) === undefined) return wrong('its lazy index is missing')
  const index = readStored(indexPath)
  if (digestOf(index) !== indexDigest) return wrong('its lazy index is damaged')
  const { count } = readLazyIndex(index, limits).spans
  const states = readSpanMap(pathOf(SPAN_MAP_NAME), count, bootId) ?? new Uint8Array(count)
  const spans = [...states.keys()].filter((span) => states[span] === SPAN_HERE)
  if (spans.length === 0) return { damage: undefined, hashedBytes: 0 }
  try {
    // Reads of it are answered by another process, which may have ended.
    await partial.serve([diffId], signal)
  } catch (error) {
    throwIfAborted(signal, `check layer ${diffId}`)
    return wrong(toLoamError(error, 'serve').message)
  }
  const task = { kind: 'check-spans', indexPath, tarPath: pathOf(TAR_NAME), spans, limits } as const
  const checked = await workers.run(task, { signal })
  const { hashedBytes } = checked
  // It may have become complete meanwhile.
  if (checked.wrong.length === 0 || metadata.layers.find(diffId)?.data !== 'partial')
    return { damage: undefined, hashedBytes }
  const problem = `${checked.wrong.length} of its ${count} spans are damaged`
  const repair = async () => clearSpans(parts, diffId, checked.wrong)
  return { damage: { problem, repair }, hashedBytes }
}

/** Marks spans as missing, so that they are fetched again. The process that fills the layer has to let go of it before. */
async function clearSpans(
  { paths, partial }: PartialCheckParts,
  diffId: DiffId,
  spans: readonly number[],
): Promise<string> {
  using _lock = await FileLock.acquire(lockPath(paths, 'layer', diffId))
  await partial.release(diffId)
  const fd = openSync(join(layerPath(paths, diffId), SPAN_MAP_NAME), 'r+')
  try {
    for (const span of spans) recordSpan(fd, span, SPAN_MISSING)
  } finally {
    closeSync(fd)
  }
  return `${spans.length} spans are fetched again when the layer is used`
}
