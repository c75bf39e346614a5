// The user namespace of a container, as its caller gives it, and what its runtime needs of it.
import { chmodSync, chownSync, mkdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { LoamError } from '../errors/index.ts'
import { type IdMapping, mountBind, parseIdMapping, toHostId } from '../linux/index.ts'
import type { RuntimePaths } from './oci-runtime.ts'
import type { UserNamespace } from './requests.ts'

const HINT = 'Write --userns 0:100000:65536, ranges of CONTAINER:HOST:LENGTH separated by commas.'

/** @throws USAGE for an invalid mapping */
export function parseUserNamespace(asked: UserNamespace | undefined): IdMapping | undefined {
  if (asked === undefined) return undefined
  const invalid = (why: string) => new LoamError('USAGE', `user namespace: ${why}`, { hint: HINT })
  return parseIdMapping(asked.uids, asked.gids, invalid)
}

/** Returns the user namespace that a root filesystem was created with. */
export function formatUserNamespace(idMapping: string | undefined): UserNamespace | undefined {
  const [uids = '', gids = ''] = idMapping?.split('/') ?? []
  return idMapping === undefined ? undefined : { uids, gids }
}

/** @throws CONFIG_INVALID if a user without rights cannot reach the state directory, as the runtime has to in a user namespace */
export function checkReachable({ state }: Pick<RuntimePaths, 'state'>): void {
  for (let path = dirname(state); path !== dirname(path); path = dirname(path)) {
    const stats = statSync(path, { throwIfNoEntry: false })
    if (stats === undefined || (stats.mode & 0o001) !== 0) continue
    throw new LoamError('CONFIG_INVALID', `run in a user namespace: ${path} is closed to other users`, {
      hint: `Choose another --state, or let users pass through it: chmod o+x ${path}`,
    })
  }
}

/** Path of the root filesystem for a runtime that enters a user namespace. */
export function rootfsInBundle(bundle: string): string {
  return join(bundle, 'rootfs')
}

/**
 * Mounts the root filesystem in the bundle. In its namespace the runtime is a user without rights on this machine, and the directories of the store are
 * closed to it. The bundle is open to root of that namespace alone, by its group; above it nothing can be listed.
 */
export function openForNamespace(
  { state }: RuntimePaths,
  { bundle, rootfsPath, idMapping }: { bundle: string; rootfsPath: string; idMapping: IdMapping },
): void {
  const target = rootfsInBundle(bundle)
  mkdirSync(target, { mode: 0o700 })
  mountBind(rootfsPath, target, false)
  chownSync(bundle, 0, toHostId(idMapping.gids, 0) ?? 0)
  chmodSync(bundle, 0o710)
  for (const path of [dirname(bundle), state]) chmodSync(path, 0o711)
}
