// Whose IDs the files of an unpacked snapshot have: those of the container, or those of this machine.
import { statSync } from 'node:fs'
import { type IdMapping, toHostId } from '../linux/index.ts'
import { idMappingOf, type Labels } from './labels.ts'
import type { RootOwner } from './snapshot-directories.ts'

/** Returns the owner on this machine of the files of root of a container. */
export function rootOf({ uids, gids }: IdMapping): RootOwner {
  return { uid: toHostId(uids, 0) ?? 0, gid: toHostId(gids, 0) ?? 0 }
}

/**
 * Returns whether the files of a directory have this machine's IDs of a mapping already: those that a container in such a user namespace has written, and
 * those that a client without id-mapped mounts has changed the owners of.
 */
export function isOwnedByRootOf(path: string, idMapping: IdMapping): boolean {
  const [{ uid, gid }, root] = [statSync(path), rootOf(idMapping)]
  return uid !== 0 && uid === root.uid && gid === root.gid
}

/**
 * Returns the mapping of the owners of an unpacked snapshot's files to those of its container; undefined if they are the same. `labels` are those of the
 * snapshot that is read, and `isOwn` says whether the folder is its own, or that of one below it.
 */
export function ownersOfFiles(folder: string, labels: Labels, isOwn: boolean): IdMapping | undefined {
  const idMapping = idMappingOf(labels)
  if (idMapping === undefined || isOwn) return idMapping
  return isOwnedByRootOf(folder, idMapping) ? idMapping : undefined
}
