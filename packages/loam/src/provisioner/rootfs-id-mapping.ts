import { LoamError } from '../errors/index.ts'
import { type IdMapping, parseIdMappingKey } from '../linux/index.ts'
import type { RootfsRecord } from '../metadata/index.ts'

/** Returns the mapping of IDs that a root filesystem was created with. @throws STORE_FORMAT for a damaged row */
export function rootfsIdMapping({
  idMapping,
  rootfsPath,
}: Pick<RootfsRecord, 'idMapping' | 'rootfsPath'>): IdMapping | undefined {
  if (idMapping === undefined) return undefined
  return parseIdMappingKey(
    idMapping,
    (why) => new LoamError('STORE_FORMAT', `read row of ${rootfsPath}: ${why}`),
  )
}
