import { randomUUID } from 'node:crypto'
import { existsSync, readdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import type { Removals } from './trash.ts'
import { layerPath, stackPath, type StorePaths } from './store-paths.ts'
import type { Digest } from '../image/index.ts'

/** Names in a layer's folder: its tar, and its derived artifacts. */
export const TAR_NAME = 'layer.tar'
export const META_NAME = 'layer.erofs'
export const UNPACKED_NAME = 'fs'
/** Its lazy index, if it was pulled lazily, and the map of the spans that are here while it is partial. */
export const LAZY_INDEX_NAME = 'layer.lazy-index'
export const SPAN_MAP_NAME = 'layer.spans'

/**
 * The artifacts of a layer or of a stack of layers. All but `tar` is derived and can be rebuilt at any time:
 *   tar      one layer itself
 *   meta     one layer's tree as an EROFS image that points into the tar
 *   unpacked one layer as a directory for overlayfs
 *   merged   the merged tree of a stack as an EROFS image that points into the layers' tars
 *   fixup    a directory above the unpacked layers of a stack, which corrects what overlayfs would show differently from the merged tree
 *   flat     the merged tree of a stack as a plain directory
 */
export const ARTIFACT_KINDS = ['tar', 'meta', 'unpacked', 'merged', 'fixup', 'flat'] as const
export type ArtifactKind = (typeof ARTIFACT_KINDS)[number]
/** The artifacts of a stack of layers. */
export const STACK_KINDS = ['merged', 'fixup', 'flat'] as const satisfies readonly ArtifactKind[]
/** The artifacts that are built from layers of the store. */
export type DerivedKind = Exclude<ArtifactKind, 'tar' | 'meta'>

/** Part of the names of outdated folders that only older containers use. */
const ASIDE = 'outdated-'

/** Names of the artifacts in the folder of their layer or stack. */
const ARTIFACT_NAMES: Readonly<Record<ArtifactKind, string>> = {
  tar: TAR_NAME,
  meta: META_NAME,
  unpacked: UNPACKED_NAME,
  merged: 'merged.erofs',
  fixup: 'fixup',
  flat: 'flat',
}

/** Returns the path of an artifact of a layer or of a stack of layers. */
export function artifactPath(paths: StorePaths, owner: Digest, kind: ArtifactKind): string {
  const isOfLayer = kind === 'tar' || kind === 'meta' || kind === 'unpacked'
  return join(isOfLayer ? layerPath(paths, owner) : stackPath(paths, owner), ARTIFACT_NAMES[kind])
}

/** Moves the folder of an earlier generation aside for the containers that use it: a mount keeps its files. */
export function setAside(path: string): void {
  renameSync(path, `${path}.${ASIDE}${randomUUID()}`)
}

/** Removes the outdated folders of a layer or stack. */
export function sweepAside(paths: StorePaths, owner: Digest, removals: Removals): void {
  for (const folder of [layerPath(paths, owner), stackPath(paths, owner)]) {
    if (!existsSync(folder)) continue
    const aside = readdirSync(folder).filter((name) => name.includes(`.${ASIDE}`))
    for (const name of aside) removals.discard(paths, join(folder, name))
  }
}
