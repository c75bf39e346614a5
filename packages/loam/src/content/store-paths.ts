import { join } from 'node:path'
import { type Digest, splitDigest } from '../image/index.ts'

/** The paths of one store. docs/formats/store.md describes the layout. */
export interface StorePaths {
  readonly root: string
  readonly format: string
  readonly database: string
  readonly blobs: string
  readonly layers: string
  readonly images: string
  readonly containers: string
  readonly snapshots: string
  readonly ingest: string
  /** Partial blobs. */
  readonly partial: string
  /** Blobs of layers as their registry has them. */
  readonly retained: string
  readonly trash: string
  /** Unreadable entries, kept for inspection. */
  readonly quarantine: string
  /** Files that are removed when the disk is full, so that it can be freed. */
  readonly reserve: string
  readonly locks: string
}

/** Returns the paths of a store; `root` is absolute and holds no symlink, so that it matches the mount table. */
export function storePaths(root: string): StorePaths {
  return {
    root,
    format: join(root, 'format'),
    database: join(root, 'metadata.db'),
    blobs: join(root, 'blobs'),
    layers: join(root, 'layers'),
    images: join(root, 'images'),
    containers: join(root, 'containers'),
    snapshots: join(root, 'snapshots'),
    ingest: join(root, 'ingest'),
    partial: join(root, 'partial'),
    retained: join(root, 'retained'),
    trash: join(root, 'trash'),
    quarantine: join(root, 'quarantine'),
    reserve: join(root, 'reserve'),
    locks: join(root, 'locks'),
  }
}

/** The folder of one layer: `layer.tar`, its metadata image `layer.erofs`, and `fs` when a backend has asked for the unpacked layer. */
export function layerPath(paths: StorePaths, diffId: Digest): string {
  return join(paths.layers, diffId)
}

/** The folder of the artifacts of a stack of layers: `merged.erofs`, `fixup` and `flat`. */
export function stackPath(paths: StorePaths, chainId: Digest): string {
  return join(paths.images, chainId)
}

/** The lock file of one object of a kind. */
export function lockPath(paths: StorePaths, kind: string, name: string): string {
  return join(paths.locks, `${kind}-${name.replaceAll(':', '-').replaceAll('/', '+')}`)
}

/** The file of one blob. */
export function blobPath(paths: StorePaths, digest: Digest): string {
  const { algorithm, hex } = splitDigest(digest)
  return join(paths.blobs, algorithm, hex)
}
