import { randomUUID } from 'node:crypto'
import { existsSync, readdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { discard, layerPath, stackPath, type StorePaths } from '../content/index.ts'
import type { Digest } from '../image/index.ts'
import { UNPACKED_NAME, META_NAME, type ArtifactKind, TAR_NAME } from './tasks.ts'

/** In names of folders that only containers of before use. */
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

/** Returns where an artifact of a layer or of a stack of layers lies. */
export function artifactPath(paths: StorePaths, owner: Digest, kind: ArtifactKind): string {
  const isOfLayer = kind === 'tar' || kind === 'meta' || kind === 'unpacked'
  return join(isOfLayer ? layerPath(paths, owner) : stackPath(paths, owner), ARTIFACT_NAMES[kind])
}

/** Moves a folder of an earlier generation out of the way, for the containers that lie on it: a mount keeps what it was made of. */
export function setAside(path: string): void {
  renameSync(path, `${path}.${ASIDE}${randomUUID()}`)
}

/** Removes what was set aside for a layer or stack. */
export function sweepAside(paths: StorePaths, owner: Digest): void {
  for (const folder of [layerPath(paths, owner), stackPath(paths, owner)]) {
    if (!existsSync(folder)) continue
    const aside = readdirSync(folder).filter((name) => name.includes(`.${ASIDE}`))
    for (const name of aside) discard(paths, join(folder, name))
  }
}
