import { existsSync, readdirSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import { isErrno } from '../errors/index.ts'
import { removeFolders, removeTree } from '../linux/index.ts'
import { type ContainerId, isContainerPart } from '../metadata/index.ts'

/** Lists the entries in the folder of containers that are not containers, as paths below it. */
export function strayEntries(folder: string, prefix = ''): string[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(prefix, entry.name)
    if (!entry.isDirectory() || !isContainerPart(entry.name)) return [path]
    return strayEntries(join(folder, entry.name, 'containers'), join(path, 'containers'))
  })
}

/** Lists the folders of containers, outermost first. */
export function containerFolders(folder: string, prefix: string): { id: ContainerId; path: string }[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name)
    return [
      // Entries whose name cannot be part of an id have been moved away before.
      { id: `${prefix}${name}` as ContainerId, path },
      ...containerFolders(join(path, 'containers'), `${prefix}${name}/`),
    ]
  })
}

/**
 * Removes a container's folder with the empty ones that Loam creates in it; one that is not empty stays, with all folders above it. Files of the
 * container are deeper, and are not read.
 */
export function removeEmptyFolders(path: string): void {
  const groups = ['rootfses', 'scratch', 'containers'].map((name) => join(path, name))
  const backends = foldersIn(join(path, 'rootfses'))
  for (const folder of [...backends.flatMap(foldersIn), ...backends, ...foldersIn(join(path, 'scratch'))])
    removeIfEmpty(folder)
  for (const folder of [...groups, path]) removeIfEmpty(folder)
}

/** Removes a container's folder with all that is in it; its root filesystems are gone, so that it is usually empty folders. */
export async function removeContainerFolder(path: string): Promise<void> {
  const [rootfses, ...others] = ['rootfses', 'scratch', 'containers'].map((name) => join(path, name)) as [
    string,
    ...string[],
  ]
  const isGone = await removeFolders([...foldersIn(rootfses), ...others], [rootfses], [path])
  if (!isGone) await removeTree(path)
}

function foldersIn(path: string): string[] {
  if (!existsSync(path)) return []
  const entries = readdirSync(path, { withFileTypes: true })
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(path, name))
}

function removeIfEmpty(path: string): void {
  try {
    rmdirSync(path)
  } catch (error) {
    if (!isErrno(error, 'ENOTEMPTY', 'EBUSY', 'ENOENT')) throw error
  }
}
