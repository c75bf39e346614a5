import { existsSync, readdirSync } from 'node:fs'
import {
  type Removals,
  layerPath,
  lockPath,
  STACK_KINDS,
  stackPath,
  type StorePaths,
  artifactPath,
  sweepAside,
  type ArtifactKind,
} from '../content/index.ts'
import { type DiffId, type Digest, isDigest } from '../image/index.ts'
import { FileLock, TimeSlice } from '../linux/index.ts'
import type { MetadataStore } from '../metadata/index.ts'
import { removeIfEmpty } from './file-state.ts'
import type { PartialLayers } from './partial-layers.ts'

/** The layers and artifacts that a sweep has removed, or would remove. */
export interface PrunedLayer {
  /** Digest of its tar. */
  readonly diffId: DiffId
  /** Bytes of its tar; of a partial layer those that were on the disk. */
  readonly tarBytes: number
}

interface Place {
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  readonly removals: Removals
  readonly partial: PartialLayers
}

/**
 * Removes the layers and artifacts that no image and no root filesystem uses, that are not `active`, and whose lease is free. Then it
 * removes the files without a row: a kill, a failing disk or a power cut may leave some. The time is linear in layers and stacks, and other
 * callers run in between. Directories are moved to the trash, and their files are removed from there later.
 */
export async function pruneLayers(place: Place, active: ReadonlySet<DiffId>): Promise<PrunedLayer[]> {
  const { layers } = place.metadata
  const slice = new TimeSlice()
  const pruned: PrunedLayer[] = []
  // Those that are being filled first: they take more space from moment to moment.
  const [partial = [], complete = []] = ['partial', 'complete'].map((data) =>
    layers.list().filter((layer) => layer.data === data),
  )
  for (const layer of [...partial, ...complete]) {
    await slice.rest()
    const { diffId } = layer
    if (active.has(diffId) || layers.isUsed(diffId)) continue
    const tarBytes = layer.data === 'partial' ? place.partial.diskBytes(diffId) : layer.tarBytes
    if (await removeLayer(place, diffId)) pruned.push({ diffId, tarBytes })
  }
  await pruneArtifacts(place, slice)
  await sweepUnrecorded(place, slice)
  return pruned
}

async function removeLayer(place: Place, diffId: DiffId): Promise<boolean> {
  const { paths, metadata, removals, partial } = place
  using lock = FileLock.tryAcquire(lockPath(paths, 'layer', diffId))
  const isGone = lock === undefined || metadata.layers.find(diffId) === undefined
  if (isGone || metadata.layers.isUsed(diffId)) return false
  if (!(await partial.forget(diffId))) return false
  await metadata.layers.remove(diffId)
  removals.discard(paths, layerPath(paths, diffId))
  lock.remove()
  for (const kind of ['unpacked', 'meta']) {
    const path = lockPath(paths, kind, diffId)
    // Taking the lock would make the file, for which a full disk has no room.
    using artifactLock = existsSync(path) ? FileLock.tryAcquire(path) : undefined
    artifactLock?.remove()
  }
  return true
}

/** Removes artifacts: directories that no root filesystem uses, and merged images whose stack no image has any more. */
async function pruneArtifacts(place: Place, slice: TimeSlice): Promise<void> {
  const { layers } = place.metadata
  for (const { owner, kind } of layers.listArtifacts()) {
    await slice.rest()
    if (kind === 'tar' || kind === 'meta') continue
    const isUsed = () => (kind === 'merged' ? layers.isStackUsed(owner) : layers.isFolderUsed(owner))
    await removeArtifact(place, owner, kind, isUsed)
  }
}

async function removeArtifact(
  { paths, metadata, removals }: Place,
  owner: Digest,
  kind: ArtifactKind,
  isUsed: () => boolean,
): Promise<void> {
  if (isUsed()) return
  using lock = FileLock.tryAcquire(lockPath(paths, kind, owner))
  if (lock === undefined) return
  if (!(await metadata.layers.removeArtifactUnless(owner, kind, isUsed))) return
  removals.discard(paths, artifactPath(paths, owner, kind))
  if (kind !== 'unpacked') removeIfEmpty(stackPath(paths, owner))
  lock.remove()
}

async function sweepUnrecorded(place: Place, slice: TimeSlice): Promise<void> {
  const { paths, metadata, removals } = place
  const sweepArtifact = async (owner: Digest, kind: ArtifactKind) => {
    if (!existsSync(artifactPath(paths, owner, kind))) return
    await removeArtifact(place, owner, kind, () => metadata.layers.findArtifact(owner, kind) !== undefined)
  }
  for (const diffId of digestsIn(paths.layers)) {
    await slice.rest()
    if (metadata.layers.find(diffId) !== undefined) {
      await sweepArtifact(diffId, 'unpacked')
      if (!metadata.layers.isFolderUsed(diffId)) sweepAside(paths, diffId, removals)
      continue
    }
    using lock = FileLock.tryAcquire(lockPath(paths, 'layer', diffId))
    // A process that fetches a layer holds the layer's lock until it has written the row.
    if (lock === undefined || metadata.layers.find(diffId) !== undefined) continue
    removals.discard(paths, layerPath(paths, diffId))
    lock.remove()
  }
  for (const chainId of digestsIn(paths.images)) {
    await slice.rest()
    for (const kind of STACK_KINDS) await sweepArtifact(chainId, kind)
    if (!metadata.layers.isFolderUsed(chainId)) sweepAside(paths, chainId, removals)
    removeIfEmpty(stackPath(paths, chainId))
  }
}

function digestsIn(folder: string): DiffId[] {
  return readdirSync(folder).filter((name): name is DiffId => isDigest(name))
}
