// The user namespace of a container, as its caller gives it, and what its runtime needs of it.
import { chmodSync, chownSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { isErrno, LoamError } from '../errors/index.ts'
import {
  createDirectories,
  DetachedMount,
  hostRoot,
  type IdMapping,
  isMachineRoot,
  mountAt,
  parseIdMapping,
  toHostId,
  unmountAll,
} from '../linux/index.ts'
import type { ResolvedUser } from '../runtime/index.ts'
import type { RuntimePaths } from './oci-runtime.ts'
import type { UserNamespace } from './requests.ts'

const HINT = 'Write --userns 0:2000000000:65536, ranges of CONTAINER:HOST:LENGTH separated by commas.'
/** Users pass through the state directory to a bundle that is theirs; they cannot list it. */
const PASSABLE = 0o711

/** @throws USAGE for an invalid mapping, and without root */
export function parseUserNamespace(asked: UserNamespace | undefined): IdMapping | undefined {
  if (asked === undefined) return undefined
  const invalid = (why: string) => new LoamError('USAGE', `user namespace: ${why}`, { hint: HINT })
  const idMapping = parseIdMapping(asked.uids, asked.gids, invalid)
  if (isMachineRoot()) return idMapping
  throw new LoamError('USAGE', 'user namespace: only root may choose its IDs', {
    hint: 'Without root a container has a user namespace in any case, in which root is your user.',
  })
}

/** Returns the user namespace that a root filesystem was created with. */
export function formatUserNamespace(idMapping: string | undefined): UserNamespace | undefined {
  const [uids = '', gids = ''] = idMapping?.split('/') ?? []
  return idMapping === undefined ? undefined : { uids, gids }
}

/**
 * Prepares the state directory for a runtime that is a user without rights, as it is in a user namespace. @throws CONFIG_INVALID if such a user cannot
 * reach the directory
 */
export function openState({ state }: Pick<RuntimePaths, 'state'>): void {
  createDirectories(state, PASSABLE)
  for (let path = dirname(realpathSync(state)); path !== dirname(path); path = dirname(path)) {
    if ((statSync(path).mode & 0o001) !== 0) continue
    throw new LoamError('CONFIG_INVALID', `run in a user namespace: ${path} is closed to other users`, {
      hint: `Choose another --state, or let users pass through it: chmod o+x ${path}`,
    })
  }
}

/** Path of the root filesystem for a runtime that enters a user namespace, without symlinks. */
export function rootfsInBundle(bundle: string): string {
  return join(realpathSync(bundle), 'rootfs')
}

/**
 * Mounts the root filesystem in the bundle. In its namespace the runtime is a user without rights on this machine, and the directories of the store are
 * closed to it. The bundle is open to root of that namespace alone, by its group; above it nothing can be listed. Devices in it do not work: this mount is
 * not in the container's group of devices, and the runtime mounts its own.
 */
export function openForNamespace(
  { state }: RuntimePaths,
  { bundle, rootfsPath, idMapping }: { bundle: string; rootfsPath: string; idMapping: IdMapping },
): void {
  const target = rootfsInBundle(bundle)
  createDirectories(target)
  // A run that was killed leaves its mount.
  unmountAll(target)
  using mount = DetachedMount.of(rootfsPath, { isReadOnly: false, isTrusted: true, isWithoutDevices: true })
  mountAt(mount, target)
  chownSync(bundle, 0, hostRoot(idMapping).gid)
  chmodSync(bundle, 0o710)
  for (const path of [dirname(bundle), state]) chmodSync(path, PASSABLE)
}

/** Returns a user without the additional groups that a user namespace does not have. @throws USER_NOT_FOUND if it does not have the user or its group */
export function inNamespace(user: ResolvedUser, { uids, gids }: IdMapping): ResolvedUser {
  const { uid, gid, additionalGids } = user
  const unknown = [
    ...(toHostId(uids, uid) === undefined ? [`user ${uid}`] : []),
    ...(toHostId(gids, gid) === undefined ? [`group ${gid}`] : []),
  ]
  if (unknown.length > 0) {
    throw new LoamError('USER_NOT_FOUND', `run as ${unknown.join(' and ')}: not in the user namespace`, {
      hint: 'Map more IDs, or choose another user by --user.',
    })
  }
  return { ...user, additionalGids: additionalGids.filter((each) => toHostId(gids, each) !== undefined) }
}

/** Returns notes on IDs of this machine that other users have: they can reach the files of a container with these IDs. */
export function sharedIdNotes({ uids, gids }: IdMapping): string[] {
  const lists = [
    { file: '/etc/subuid', ranges: uids },
    { file: '/etc/subgid', ranges: gids },
  ]
  return lists.flatMap(({ file, ranges }) =>
    readSubordinates(file)
      .filter(({ first, count }) =>
        ranges.some(({ host, length }) => host < first + count && first < host + length),
      )
      .map(
        ({ user, first, count }) =>
          `${user} has the IDs ${first} to ${first + count - 1} (${file}), and can reach the files of this container`,
      ),
  )
}

/** subuid(5): user, first ID and count, separated by colons. */
function readSubordinates(file: string): { user: string; first: number; count: number }[] {
  try {
    return readFileSync(file, 'utf8')
      .split('\n')
      .flatMap((line) => {
        const [, user = '', first = '', count = ''] = /^([^:]+):(\d+):(\d+)$/.exec(line) ?? []
        return user === '' ? [] : [{ user, first: Number(first), count: Number(count) }]
      })
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return []
    throw error
  }
}
