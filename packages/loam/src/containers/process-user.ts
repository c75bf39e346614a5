// The user of a container's process: as it was asked for, or the image's, or the user of Loam.
import { LoamError } from '../errors/index.ts'
import type { RunConfig } from '../image/index.ts'
import { type IdMapping, ownerInRoot, readFileInRoot, toContainerOwner } from '../linux/index.ts'
import { type Confinement, type ResolvedUser, resolveUser } from '../runtime/index.ts'
import type { Settings } from '../config/index.ts'
import type { RunImageOptions } from './requests.ts'
import { inNamespace } from './user-namespace.ts'

/** Where a process runs, and what was asked for. */
export interface ProcessPlace {
  readonly rootfsPath: string
  readonly options: Pick<RunImageOptions, 'user' | 'commandInfo'>
  readonly settings: Pick<Settings, 'switch_user'>
  readonly confinement: Pick<Confinement, 'owner' | 'namespace'>
  /** The user namespace of the container. Undefined: as the confinement says. */
  readonly idMapping: IdMapping | undefined
}

/** Returns the user of the process, from the files of the root filesystem. @throws USER_NOT_FOUND */
export function findProcessUser(
  { rootfsPath, options, settings, confinement, idMapping }: ProcessPlace,
  run: RunConfig,
): ResolvedUser {
  const { owner, namespace } = confinement
  const text = (path: string) => readFileInRoot(rootfsPath, path)?.toString('utf8')
  const user = resolveUser(
    options.user ?? options.commandInfo?.user ?? (settings.switch_user ? run.user : ownUser(owner)),
    {
      passwd: text('/etc/passwd'),
      group: text('/etc/group'),
      ownerOf: (path) => ownerInContainer(rootfsPath, path, idMapping),
    },
  )
  if (owner !== undefined) checkOwnUser(user)
  const ids = idMapping ?? namespace
  return ids === undefined ? user : inNamespace(user, ids)
}

/** The owner of a file with the IDs of the container. */
function ownerInContainer(
  rootfsPath: string,
  path: string,
  idMapping: IdMapping | undefined,
): { readonly uid: number; readonly gid: number } | undefined {
  const owner = ownerInRoot(rootfsPath, path)
  if (owner === undefined || idMapping === undefined) return owner
  return toContainerOwner(idMapping, owner)
}

/** The user who runs Loam, and its user and group in the container. */
function ownUser(owner: Confinement['owner']): string {
  return owner === undefined ? `${process.getuid?.() ?? 0}:${process.getgid?.() ?? 0}` : '0:0'
}

/** Without root a container has one user, which owns all files of its root filesystem: root. @throws USER_NOT_FOUND */
function checkOwnUser({ uid, gid }: ResolvedUser): void {
  if (uid === 0 && gid === 0) return
  throw new LoamError(
    'USER_NOT_FOUND',
    `run as user ${uid}:${gid}: without root a container has one user, 0:0`,
    {
      hint: 'Add --user 0:0, which is your own user on this machine. With subordinate IDs (apt-get install uidmap; usermod --add-subuids) a container has all users.',
    },
  )
}
