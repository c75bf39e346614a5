// The IDs of the files of an unpacked snapshot: those of its container, or those of this machine.
import { statSync } from 'node:fs'
import { type IdMapping, toHostId } from '../linux/index.ts'
import type { SnapshotRecord } from '../metadata/index.ts'
import { storedMapping } from './labels.ts'
import type { RootOwner } from './snapshot-directories.ts'

/** Returns the owner on this machine of the files of root of a container. */
export function rootOf({ uids, gids }: IdMapping): RootOwner {
  return { uid: toHostId(uids, 0) ?? 0, gid: toHostId(gids, 0) ?? 0 }
}

/**
 * Returns whether the files of an unpacked snapshot have this machine's IDs of a mapping: those that a container in such a user namespace has written, by
 * their record; and those that a client without ID-mapped mounts has changed the owners of, by the owner of their root.
 */
export function hasHostIds(
  folder: string,
  snapshot: Pick<SnapshotRecord, 'idMapping'>,
  idMapping: IdMapping,
): boolean {
  if (snapshot.idMapping !== undefined) return snapshot.idMapping === idMapping.key
  const [{ uid, gid }, root] = [statSync(folder), rootOf(idMapping)]
  return uid !== 0 && uid === root.uid && gid === root.gid
}

/**
 * Returns the mapping of the owners of an unpacked snapshot's files to those of its container; undefined if they are the same. `reader` is the snapshot
 * that is read with all those below it.
 */
export function ownersOfFiles(
  folder: string,
  snapshot: SnapshotRecord,
  reader: SnapshotRecord,
): IdMapping | undefined {
  const own = storedMapping(snapshot)
  if (own !== undefined) return own
  const idMapping = storedMapping(reader)
  return idMapping !== undefined && hasHostIds(folder, snapshot, idMapping) ? idMapping : undefined
}
