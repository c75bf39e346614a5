import { existsSync, readdirSync } from 'node:fs'
import {
  discardLater,
  layerPath,
  lockPath,
  stackPath,
  type StorePaths,
  artifactPath,
  sweepAside,
  type ArtifactKind,
} from '../content/index.ts'
import { type DiffId, type Digest, isDigest } from '../image/index.ts'
import { FileLock, removeTree } from '../linux/index.ts'
import type { MetadataStore } from '../metadata/index.ts'
import { removeIfEmpty } from './file-state.ts'

/** What a sweep has removed, or would. */
export interface PrunedLayer {
  readonly diffId: DiffId
  readonly tarBytes: number
}

interface Place {
  readonly paths: StorePaths
  readonly metadata: MetadataStore
  /** What is being removed from the disk. */
  readonly pending: Set<Promise<void>>
}

/**
 * Removes the layers and artifacts that no image and no root filesystem uses, that are not `active`, and whose lease nobody holds. Then
 * what has no row: a kill, a failing disk or a power cut leaves such files between a row and its files. Linear in layers and stacks; what is
 * in their folders goes while others work, and `pending` holds what has not gone.
 */
export function pruneLayers(place: Place, active: ReadonlySet<DiffId>): PrunedLayer[] {
  const { layers } = place.metadata
  const pruned = layers
    .list()
    .filter(({ diffId }) => !active.has(diffId) && !layers.isUsed(diffId) && removeLayer(place, diffId))
  pruneArtifacts(place)
  sweepUnrecorded(place)
  return pruned.map(({ diffId, tarBytes }) => ({ diffId, tarBytes }))
}

function removeLayer({ paths, metadata, pending }: Place, diffId: DiffId): boolean {
  using lock = FileLock.tryAcquire(lockPath(paths, 'layer', diffId))
  if (lock === undefined || metadata.layers.isUsed(diffId)) return false
  metadata.layers.remove(diffId)
  discardLater(paths, layerPath(paths, diffId), pending)
  removeTree(lock.path)
  for (const kind of ['unpacked', 'meta']) removeTree(lockPath(paths, kind, diffId))
  return true
}

/** Folders are kept for root filesystems that lie on them, images for as long as their stack is an image's. */
function pruneArtifacts(place: Place): void {
  const { layers } = place.metadata
  for (const { owner, kind } of layers.listArtifacts()) {
    if (kind === 'tar' || kind === 'meta') continue
    const isUsed = () => (kind === 'merged' ? layers.isStackUsed(owner) : layers.isFolderUsed(owner))
    removeArtifact(place, owner, kind, isUsed)
  }
}

function removeArtifact(
  { paths, metadata, pending }: Place,
  owner: Digest,
  kind: ArtifactKind,
  isUsed: () => boolean,
): void {
  if (isUsed()) return
  using lock = FileLock.tryAcquire(lockPath(paths, kind, owner))
  if (lock === undefined || isUsed()) return
  metadata.layers.removeArtifact(owner, kind)
  discardLater(paths, artifactPath(paths, owner, kind), pending)
  if (kind !== 'unpacked') removeIfEmpty(stackPath(paths, owner))
  removeTree(lock.path)
}

function sweepUnrecorded(place: Place): void {
  const { paths, metadata, pending } = place
  const sweepArtifact = (owner: Digest, kind: ArtifactKind) => {
    if (!existsSync(artifactPath(paths, owner, kind))) return
    removeArtifact(place, owner, kind, () => metadata.layers.findArtifact(owner, kind) !== undefined)
  }
  for (const diffId of digestsIn(paths.layers)) {
    if (metadata.layers.find(diffId) !== undefined) {
      sweepArtifact(diffId, 'unpacked')
      if (!metadata.layers.isFolderUsed(diffId)) sweepAside(paths, diffId)
      continue
    }
    using lock = FileLock.tryAcquire(lockPath(paths, 'layer', diffId))
    // Whoever brings a layer in holds its lock until there is a row.
    if (lock === undefined || metadata.layers.find(diffId) !== undefined) continue
    discardLater(paths, layerPath(paths, diffId), pending)
    removeTree(lock.path)
  }
  for (const chainId of digestsIn(paths.images)) {
    for (const kind of ['merged', 'fixup', 'flat'] as const) sweepArtifact(chainId, kind)
    if (!metadata.layers.isFolderUsed(chainId)) sweepAside(paths, chainId)
    removeIfEmpty(stackPath(paths, chainId))
  }
}

function digestsIn(folder: string): DiffId[] {
  return readdirSync(folder).filter((name): name is DiffId => isDigest(name))
}
