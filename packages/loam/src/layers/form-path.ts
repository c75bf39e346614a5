import { join } from 'node:path'
import { layerPath, stackPath, type StorePaths } from '../content/index.ts'
import type { Digest } from '../image/index.ts'
import { INDEX_NAME, type LayerForm, TAR_NAME } from './tasks.ts'

/** Names of the forms in the folder of their layer or stack. */
const FORM_NAMES: Readonly<Record<LayerForm, string>> = {
  tar: TAR_NAME,
  index: INDEX_NAME,
  fs: 'fs',
  merged: 'merged.erofs',
  patch: 'patch',
  whole: 'whole',
}

/** Returns where a form of a layer or of a stack of layers lies. */
export function formPath(paths: StorePaths, owner: Digest, form: LayerForm): string {
  const isOfLayer = form === 'tar' || form === 'index' || form === 'fs'
  return join(isOfLayer ? layerPath(paths, owner) : stackPath(paths, owner), FORM_NAMES[form])
}
