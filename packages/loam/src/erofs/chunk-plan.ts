import type { FileData } from '../tree/index.ts'
import { CHUNK_BITS_MASK, CHUNK_INDEX_BYTES, TAR_BLOCK_BITS } from './format.ts'

/** A stretch of a file that has data, and its position in the tar. */
export interface Run {
  readonly start: number
  readonly end: number
  readonly position: number
}

/** How a file is cut into chunks. */
export interface ChunkPlan {
  /** Size of a chunk, as a power of two. */
  readonly chunkBits: number
  readonly chunks: number
  /** Chunks that have to be copied into the image, because their data is not aligned to a block of the tar or is mixed with holes. */
  readonly copied: number
}

/** The content of one chunk. */
export type Chunk =
  | { readonly kind: 'hole' }
  | { readonly kind: 'stored'; readonly position: number }
  | { readonly kind: 'copied' }

/** Returns the stretches of a file that have data, neighbours joined. */
export function runsOf({ sizeBytes, offset, segments }: FileData): Run[] {
  if (segments === undefined) return sizeBytes === 0 ? [] : [{ start: 0, end: sizeBytes, position: offset }]
  const runs: { start: number; end: number; position: number }[] = []
  let position = offset
  for (let index = 0; index + 1 < segments.length; index += 2) {
    const start = segments[index] ?? 0
    const length = segments[index + 1] ?? 0
    const last = runs.at(-1)
    if (length > 0 && last?.end === start) last.end += length
    else if (length > 0) runs.push({ start, end: start + length, position })
    position += length
  }
  return runs
}

/**
 * Chooses the size of chunks that makes the image smallest: large ones need few indexes, small ones leave less to copy.
 * A file without holes whose data begin on a block needs one index. Linear in the stretches.
 */
export function planChunks(
  sizeBytes: number,
  runs: readonly Run[],
  blockBits: number,
  isExternal: boolean,
): ChunkPlan {
  const whole = Math.max(blockBits, Math.ceil(Math.log2(Math.max(sizeBytes, 1))))
  const largest = Math.min(whole, blockBits + CHUNK_BITS_MASK)
  let best: ChunkPlan | undefined
  for (let chunkBits = largest; chunkBits >= blockBits; chunkBits -= 1) {
    const chunks = Math.ceil(sizeBytes / 2 ** chunkBits)
    const copied = countCopied(sizeBytes, runs, { blockBits, chunkBits, isExternal })
    const plan = { chunkBits, chunks, copied }
    if (best === undefined || costOf(plan) < costOf(best)) best = plan
    // Smaller chunks only add indexes from here on.
    if (copied === 0) break
  }
  return best ?? { chunkBits: blockBits, chunks: 0, copied: 0 }
}

/** Returns whether an image over the tar needs none of a sparse file's data: all of it is on blocks of the tar. */
export function isStoredOnBlocks(
  sparse: readonly { readonly offset: number; readonly length: number }[],
  sizeBytes: number,
  dataOffset: number,
): boolean {
  const segments = Float64Array.from(sparse.flatMap(({ offset, length }) => [offset, length]))
  const runs = runsOf({ layer: 0, sizeBytes, offset: dataOffset, segments })
  return planChunks(sizeBytes, runs, TAR_BLOCK_BITS, true).copied === 0
}

function costOf({ chunkBits, chunks, copied }: ChunkPlan): number {
  return chunks * CHUNK_INDEX_BYTES + copied * 2 ** chunkBits
}

interface ChunkShape {
  readonly blockBits: number
  readonly chunkBits: number
  /** Data may stay in the tar. */
  readonly isExternal: boolean
}

function countCopied(sizeBytes: number, runs: readonly Run[], shape: ChunkShape): number {
  const chunkBytes = 2 ** shape.chunkBits
  let copied = 0
  let counted = -1
  for (const run of runs) {
    const [from, to] = storedChunks(run, sizeBytes, shape)
    const first = Math.max(Math.floor(run.start / chunkBytes), counted + 1)
    const last = Math.ceil(run.end / chunkBytes) - 1
    const inside = Math.max(0, Math.min(to, last + 1) - Math.max(from, first))
    copied += Math.max(0, last - first + 1 - inside)
    counted = Math.max(counted, last)
  }
  return copied
}

/** The chunks that a stretch fills completely with data that can stay in the tar, as first and end. */
function storedChunks(
  run: Run,
  sizeBytes: number,
  { blockBits, chunkBits, isExternal }: ChunkShape,
): [number, number] {
  const isOnBlock = Math.abs(run.position - run.start) % 2 ** blockBits === 0
  if (!isExternal || !isOnBlock) return [0, 0]
  const chunkBytes = 2 ** chunkBits
  const end = run.end >= sizeBytes ? Math.ceil(sizeBytes / chunkBytes) : Math.floor(run.end / chunkBytes)
  return [Math.ceil(run.start / chunkBytes), end]
}

/** Yields the content of each chunk of a file, in order. */
export function* cutIntoChunks(
  sizeBytes: number,
  runs: readonly Run[],
  plan: ChunkPlan,
  shape: Omit<ChunkShape, 'chunkBits'>,
): Generator<Chunk> {
  const chunkBytes = 2 ** plan.chunkBits
  const full = { ...shape, chunkBits: plan.chunkBits }
  let index = 0
  for (let chunk = 0; chunk < plan.chunks; chunk += 1) {
    const start = chunk * chunkBytes
    while (index < runs.length && (runs[index]?.end ?? 0) <= start) index += 1
    const run = runs[index]
    if (run === undefined || run.start >= start + chunkBytes) {
      yield { kind: 'hole' }
      continue
    }
    const [from, to] = storedChunks(run, sizeBytes, full)
    if (chunk >= from && chunk < to) yield { kind: 'stored', position: run.position + start - run.start }
    else yield { kind: 'copied' }
  }
}

/**
 * Returns the first block, from the given one on, for the copied chunks of a file, so that none is next to a chunk of the tar: before or behind it in the file, whatever
 * holes are between them, and with the block number that follows. Linux appends a read to the one before if its blocks follow, and does not compare the
 * devices (fs/iomap/buffered-io.c, up to 6.18 at least): it would read the second chunk from the device of the first.
 */
export function firstApartFromTar(
  from: number,
  chunks: Iterable<Chunk>,
  { chunkBits }: Pick<ChunkPlan, 'chunkBits'>,
  blockBits: number,
): number {
  const chunkBlocks = 2 ** (chunkBits - blockBits)
  const blockOf = (position: number) => position / 2 ** blockBits
  const taken = new Set<number>()
  let copiedBlocks = 0
  let last: Chunk | undefined
  for (const chunk of chunks) {
    if (chunk.kind === 'hole') continue
    if (chunk.kind === 'copied' && last?.kind === 'stored')
      taken.add(blockOf(last.position) + chunkBlocks - copiedBlocks)
    if (chunk.kind === 'stored' && last?.kind === 'copied') taken.add(blockOf(chunk.position) - copiedBlocks)
    if (chunk.kind === 'copied') copiedBlocks += chunkBlocks
    last = chunk
  }
  let first = from
  while (taken.has(first)) first += 1
  return first
}
