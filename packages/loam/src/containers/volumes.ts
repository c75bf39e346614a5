import { isAbsolute, posix, resolve } from 'node:path'
import { existsSync } from 'node:fs'
import { LoamError, throwIfAborted, toLoamError } from '../errors/index.ts'
import {
  followHostPath,
  type RootedPath,
  createDirectoryInRoot,
  type FileOwner,
  hostRoot,
} from '../linux/index.ts'
import type { RootfsRecord } from '../metadata/index.ts'
import { rootfsIdMapping } from '../provisioner/index.ts'
import { parseImageMount } from '../runtime/index.ts'
import type { ImageVolume, MountedVolume } from './requests.ts'
import type { ProvisionedImage, ProvisionedVolume } from './results.ts'

/** Directories that volumes of a container may be mounted in. */
export interface VolumeRoots {
  /** The container's root filesystem; undefined for a container without one. */
  readonly rootfsPath: string | undefined
  /** Folder in the root filesystem for relative targets. */
  readonly sandboxDirectory: string
  /** Folder of this machine for relative targets, without a root filesystem. */
  readonly sandbox: string | undefined
  /** All root filesystems: their symlinks are resolved inside them, also for targets of this machine. */
  readonly rootfses: readonly Pick<RootfsRecord, 'rootfsPath' | 'idMapping'>[]
}

/** Separates mounts of images from mounts that the runtime supports. @throws USAGE */
export function splitMounts(mounts: readonly string[]): { volumes: ImageVolume[]; mounts: string[] } {
  const volumes: ImageVolume[] = []
  const others: string[] = []
  for (const mount of mounts) {
    const volume = parseImageMount(mount)
    if (volume === undefined) others.push(mount)
    else volumes.push(volume)
  }
  return { volumes, mounts: others }
}

/** Returns the path of a target in the container. @throws USAGE for a target that leads out of the sandbox folder */
export function containerPath(target: string, sandboxDirectory: string): string {
  if (target === '' || target.includes('\0')) throw invalidTarget(target, 'it is no path')
  if (isAbsolute(target)) return posix.normalize(target)
  const inside = posix.normalize(target)
  if (inside === '..' || inside.startsWith('../')) throw invalidTarget(target, 'it leads out of the sandbox')
  return posix.join(sandboxDirectory, inside)
}

/**
 * Returns the directory to mount a volume at, and creates it if that is allowed. The path has no symlinks, but may be replaced
 * before it is used. @throws USAGE, and system errors
 */
export function volumePath(target: string, roots: VolumeRoots): RootedPath {
  const { rootfsPath, sandboxDirectory, sandbox } = roots
  const path = containerPath(target, sandboxDirectory)
  const isRootfs = (folder: string) => roots.rootfses.some((rootfs) => rootfs.rootfsPath === folder)
  const create = (place: RootedPath) => createTarget(target, place, ownerIn(place.root, roots))
  if (rootfsPath !== undefined) return create({ root: rootfsPath, path })
  if (isAbsolute(target)) {
    const found = followHostPath(target, isRootfs)
    if (found.root !== '/') return create(found)
    if (existsSync(found.path)) return found
    throw invalidTarget(target, 'without a root filesystem an absolute target must exist')
  }
  if (sandbox === undefined)
    throw invalidTarget(target, 'without a root filesystem a relative target needs a sandbox directory')
  const folder = followHostPath(resolve(sandbox), isRootfs)
  if (folder.root !== '/') return create({ ...folder, path: posix.join(folder.path, target) })
  return { root: '/', path: createDirectoryInRoot(folder.path, `/${target}`) }
}

/** Returns the owner of what is root's in a root filesystem; undefined without a user namespace. */
function ownerIn(root: string, { rootfses }: VolumeRoots): FileOwner | undefined {
  const record = rootfses.find(({ rootfsPath }) => rootfsPath === root)
  const idMapping = record === undefined ? undefined : rootfsIdMapping(record)
  return idMapping === undefined ? undefined : hostRoot(idMapping)
}

function createTarget(target: string, { root, path }: RootedPath, owner: FileOwner | undefined): RootedPath {
  const made = createDirectoryInRoot(root, path, owner)
  if (!made.startsWith(`${root}/`)) throw invalidTarget(target, 'it is the root of the container')
  return { root, path: made.slice(root.length) }
}

function invalidTarget(target: string, why: string): LoamError {
  return new LoamError('USAGE', `mount a volume at ${JSON.stringify(target)}: ${why}`)
}

/** Creates all volumes at the same time. @throws VOLUMES_FAILED with all failures; the created volumes are removed */
export async function provisionAll(
  volumes: readonly MountedVolume[],
  acts: {
    readonly sandboxDirectory: string
    readonly provision: (volume: MountedVolume) => Promise<ProvisionedImage>
    readonly undo: (rootfs: ProvisionedImage) => Promise<void>
    readonly signal: AbortSignal | undefined
  },
): Promise<ProvisionedVolume[]> {
  const results = await Promise.allSettled(
    volumes.map(async (volume): Promise<ProvisionedVolume> => {
      const path = containerPath(volume.target, acts.sandboxDirectory)
      const rootfs = await acts.provision(volume)
      return { rootfs, containerPath: path, isReadOnly: volume.isReadOnly ?? false }
    }),
  )
  const made = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
  if (made.length === results.length) return made
  const failures = results.flatMap((result) =>
    result.status === 'rejected' ? [result.reason as unknown] : [],
  )
  const undone = await Promise.allSettled(made.map(async ({ rootfs }) => acts.undo(rootfs)))
  for (const result of undone) if (result.status === 'rejected') failures.push(result.reason)
  throwIfAborted(acts.signal, 'provision volumes')
  const errors = failures.map((failure) => toLoamError(failure, 'provision a volume'))
  throw new LoamError('VOLUMES_FAILED', errors.map(({ message }) => message).join('; '), {
    cause: errors[0],
    hint: errors.find(({ hint }) => hint !== undefined)?.hint,
    details: { codes: errors.map(({ code }) => code).join(',') },
  })
}
