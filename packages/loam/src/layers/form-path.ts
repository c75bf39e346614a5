import { randomUUID } from 'node:crypto'
import { existsSync, readdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { discard, layerPath, stackPath, type StorePaths } from '../content/index.ts'
import type { Digest } from '../image/index.ts'
import { FS_NAME, INDEX_NAME, type LayerForm, TAR_NAME } from './tasks.ts'

/** In names of folders that only containers of before use. */
const ASIDE = 'outdated-'

/** Names of the forms in the folder of their layer or stack. */
const FORM_NAMES: Readonly<Record<LayerForm, string>> = {
  tar: TAR_NAME,
  index: INDEX_NAME,
  fs: FS_NAME,
  merged: 'merged.erofs',
  patch: 'patch',
  whole: 'whole',
}

/** Returns where a form of a layer or of a stack of layers lies. */
export function formPath(paths: StorePaths, owner: Digest, form: LayerForm): string {
  const isOfLayer = form === 'tar' || form === 'index' || form === 'fs'
  return join(isOfLayer ? layerPath(paths, owner) : stackPath(paths, owner), FORM_NAMES[form])
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
