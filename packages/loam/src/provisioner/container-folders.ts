import { existsSync, readdirSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import { isErrno } from '../errors/index.ts'
import { isContainerPart } from './container-id.ts'

/** Lists what in the folder of containers is none, as paths below it. */
export function strayEntries(folder: string, prefix = ''): string[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(prefix, entry.name)
    if (!entry.isDirectory() || !isContainerPart(entry.name)) return [path]
    return strayEntries(join(folder, entry.name, 'containers'), join(path, 'containers'))
  })
}

/** Lists the folders of containers, outermost first. */
export function containerFolders(folder: string, prefix: string): { id: string; path: string }[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name)
    return [
      { id: `${prefix}${name}`, path },
      ...containerFolders(join(path, 'containers'), `${prefix}${name}/`),
    ]
  })
}

/** Removes a container's folder with the empty ones in it; a folder that is not empty stays with all above it. */
export function removeEmptyFolders(path: string): void {
  if (!existsSync(path)) return
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (entry.isDirectory()) removeEmptyFolders(join(path, entry.name))
  }
  try {
    rmdirSync(path)
  } catch (error) {
    if (!isErrno(error, 'ENOTEMPTY', 'EBUSY', 'ENOENT')) throw error
  }
}
