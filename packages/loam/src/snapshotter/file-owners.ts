// The IDs of the files of an unpacked snapshot: those of its container, or those of this machine.
import { statSync } from 'node:fs'
import { hostRoot, type IdMapping } from '../linux/index.ts'
import type { SnapshotRecord } from '../metadata/index.ts'
import { storedMapping } from './labels.ts'

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
  const [{ uid, gid }, root] = [statSync(folder), hostRoot(idMapping)]
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
