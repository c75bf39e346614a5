import type { Socket } from 'node:net'
import { isAbsolute, resolve } from 'node:path'
import type { Configuration, Loam } from 'loamfs'
import {
  type FileRights as Rights,
  type OwnFolder,
  peerGroups,
  peerUser,
  withFileRights,
} from 'loamfs/internal'
import type { SelfReason } from './messages.ts'

/** Commands whose outcome belongs to the user who runs them: a process, and files that are written or removed. */
const OF_CALLER = [
  ...['run', 'exec', 'start', 'cp', 'diff'],
  ...['export', 'unexport', 'save', 'copy', 'index'],
]

/** Returns the rights of the process at the other end of a connection; undefined if the kernel does not know them. */
export function rightsOfPeer(socket: Socket): Rights | undefined {
  const userId = peerUser(socket)
  return userId === undefined ? undefined : { userId, groupIds: peerGroups(socket) }
}

/** Does work for a client: the files that it names are read with its rights, and the store with those of the daemon. */
export async function withRightsOf<Result>(
  rights: Rights | undefined,
  loam: Loam,
  act: () => Promise<Result>,
): Promise<Result> {
  if (rights === undefined) return act()
  return withFileRights(rights, ownFolders(loam.store.configuration.values), act)
}

/** Returns the directories that the daemon reads with its own rights: the store, and where the configuration says that images are. */
export function ownFolders(values: Configuration['values']): OwnFolder[] {
  const { root, state, docker_store_dir: docker, appc_store_dir: appc } = values
  const strict = [root, state, docker, appc].filter((path) => path !== undefined)
  const named = [...values.docker_registry, ...values.appc_simple_discovery_uri_prefix]
    .map((address) => address.replace(/^file:\/\//, ''))
    .filter((address) => isAbsolute(address))
  return [
    ...strict.map((path) => ({ path: resolve(path), followsLinks: false })),
    ...named.map((path) => ({ path: resolve(path), followsLinks: true })),
  ]
}

/** Returns the rights of this process. */
export function ownRights(): Rights {
  const own = process.getegid?.() ?? 0
  return { userId: process.geteuid?.() ?? 0, groupIds: [own, ...(process.getgroups?.() ?? [])] }
}

/** Returns the reason if a command, given by its names, has to run with the rights of its caller, which are not those of the daemon. */
export function findOtherRights(
  caller: Rights,
  own: Rights,
  names: readonly string[],
): SelfReason | undefined {
  const isOfCaller = names.some((name) => OF_CALLER.includes(name))
  if (caller.userId !== own.userId)
    return isOfCaller ? { why: 'process', text: 'it belongs to another user' } : undefined
  const creates = caller.groupIds[0] !== own.groupIds[0]
  // Root may read and write everything, so that only the group of what it creates matters.
  const differs =
    own.userId === 0 ? isOfCaller && creates : creates || !isSameSet(caller.groupIds, own.groupIds)
  return differs ? { why: 'process', text: 'it belongs to other groups' } : undefined
}

function isSameSet(one: readonly number[], other: readonly number[]): boolean {
  return new Set(one).symmetricDifference(new Set(other)).size === 0
}
