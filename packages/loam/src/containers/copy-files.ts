import {
  closeSync,
  constants,
  existsSync,
  openSync,
  readlinkSync,
  realpathSync,
  type Stats,
  statSync,
} from 'node:fs'
import { basename, dirname, join, posix, resolve } from 'node:path'
import { isErrno, LoamError, toLoamError } from '../errors/index.ts'
import type { LayerStore, MountBelow } from '../layers/index.ts'
import {
  FileStat,
  hostRoot,
  type IdMapping,
  isRoot,
  isWithin,
  libc,
  O_CLOEXEC,
  O_PATH,
  openDirectoryInRoot,
  openFileInRoot,
} from '../linux/index.ts'
import type { ContainerId } from '../metadata/index.ts'
import { type Provisioner, rootfsIdMapping } from '../provisioner/index.ts'
import { readMounts } from './bundle-config.ts'
import { bundlePath, type RuntimePaths } from './oci-runtime.ts'
import { readProcess } from './process-state.ts'
import type { CopyOptions } from './requests.ts'
import type { CopyReport } from './results.ts'

/** The root filesystem of a container, with what its runtime mounts in it. */
export interface CopyContainer {
  readonly id: string
  readonly rootfsPath: string
  readonly idMapping: IdMapping | undefined
  /** Whether its process runs. */
  readonly runs: boolean
  /** Mount points of the container: what is behind them is not in the root filesystem. */
  readonly mounts: readonly string[]
}

/** Finds the root filesystem of a container, which has to be complete. @throws CONTAINER_NOT_FOUND, ROOTFS_UNMOUNTED */
export async function findCopyContainer(
  provisioner: Provisioner,
  paths: RuntimePaths,
  id: ContainerId,
): Promise<CopyContainer> {
  const rootfs = provisioner.find(id)?.rootfses.find(({ volumeTarget }) => volumeTarget === undefined)
  if (rootfs === undefined) {
    throw new LoamError('CONTAINER_NOT_FOUND', `copy files of ${id}: no such container`, {
      hint: '`loam ps` lists the containers.',
    })
  }
  provisioner.requireStanding(rootfs, `copy files of ${id}`)
  const { status } = await readProcess(paths, id)
  const runs = status === 'running' || status === 'paused'
  const mounts = findMountPoints(bundlePath(paths, id), runs)
  return { id, rootfsPath: rootfs.rootfsPath, idMapping: rootfsIdMapping(rootfs), runs, mounts }
}

/** Returns what hides files of the root filesystem: now, or when the container is started again. A tmpfs may begin with a copy of them. */
export function findMountPoints(bundle: string, runs: boolean): string[] {
  if (!existsSync(join(bundle, 'config.json'))) return []
  return readMounts(bundle)
    .filter(({ options }) => runs || options?.includes('tmpcopyup') !== true)
    .map(({ destination }) => destination)
}

/** The directory that a copy goes to, opened, and its name there; undefined for the content of a directory. */
interface Target {
  readonly fd: number
  readonly name: string | undefined
}

const OPEN_PLACE = O_PATH | constants.O_DIRECTORY

/** Copies a file or a directory of a container to a path of this machine. @throws PATH_NOT_FOUND, USAGE, system errors */
export async function copyFrom(
  layers: Pick<LayerStore, 'trees'>,
  container: CopyContainer,
  [path, hostPath]: readonly [path: string, hostPath: string],
  { keepsOwners = false, followsLink = false, signal }: CopyOptions,
): Promise<CopyReport> {
  const source = openInContainer(container, path, followsLink)
  using _source = closing(source)
  const stat = FileStat.of(source)
  const { isDirectory } = stat
  const instead = `loam exec ${container.id} cat FILE > TARGET`
  using target = openHostTarget(hostPath, { path, isDirectory, instead })
  checkOutside(target, stat, `copy ${container.id}:${path} to ${hostPath}`)
  const copy = { source, target: target.fd, name: target.name, owner: undefined }
  return await layers.trees.copyTree({ ...copy, keepsOwners: keepsOwners && isRoot() }, signal)
}

/** Opens a file or a directory of a container as a path (`O_PATH`); also a symlink, unless it is followed. The caller closes it. @throws PATH_NOT_FOUND, USAGE */
export function openInContainer(container: CopyContainer, path: string, followsLink: boolean): number {
  const follows = followsLink || isDirectoryPath(path)
  const found = openFileInRoot(inContainer(container, path, follows), follows)
  if (found !== undefined) return found
  throw notFound(`${container.id}:${path}`, 'there is no such file in the container')
}

/** Copies a file or a directory of this machine into a container. @throws PATH_NOT_FOUND, USAGE, system errors */
export async function copyTo(
  layers: Pick<LayerStore, 'trees'>,
  container: CopyContainer,
  [hostPath, path]: readonly [hostPath: string, path: string],
  { keepsOwners = false, followsLink = false, signal }: CopyOptions,
): Promise<CopyReport> {
  const follows = followsLink || isDirectoryPath(hostPath)
  using source = closing(openHost(hostPath, O_PATH | (follows ? 0 : constants.O_NOFOLLOW)))
  const stat = FileStat.of(source.fd)
  const { isDirectory } = stat
  const instead = `loam exec -i ${container.id} sh -c 'cat > TARGET' < FILE`
  using target = openContainerTarget(container, path, { path: hostPath, isDirectory, instead })
  checkOutside(target, stat, `copy ${hostPath} to ${container.id}:${path}`)
  const { idMapping } = container
  const root = idMapping === undefined ? { uid: 0, gid: 0 } : hostRoot(idMapping)
  // In a user namespace the owners of this machine have no meaning.
  const keeps = keepsOwners && isRoot() && idMapping === undefined
  const owner = keeps || !isRoot() ? undefined : root
  const mounts = mountsBelow(container, target.fd)
  const named = mounts.find(({ parts }) => parts.length === 1 && parts[0] === target.name)
  if (named !== undefined) throw isMount(container, path, named.mount)
  const to = { target: target.fd, name: target.name, mounts }
  return await layers.trees.copyTree({ source: source.fd, ...to, owner, keepsOwners: keeps }, signal)
}

/** A copy would find itself in the directory that it reads, and would not end. Also the store with its containers may be in it. @throws USAGE */
function checkOutside({ fd }: Target, source: FileStat, attempted: string): void {
  if (!source.isDirectory || !isWithin(fd, source)) return
  throw new LoamError('USAGE', `${attempted}: the target is in the directory that is copied`, {
    hint: 'Copy the parts of the directory that are needed.',
  })
}

interface CopySource {
  /** As it was given. */
  readonly path: string
  readonly isDirectory: boolean
  /** Command for targets that a copy does not write to. */
  readonly instead: string
}

/**
 * Returns the place on this machine, by the rules of docker and podman; but a symlink at the end of the path, which a container may have put there, is
 * followed only if the path has a slash or a dot after it. One to a file or to nothing is replaced.
 */
function openHostTarget(hostPath: string, source: CopySource): Target & Disposable {
  if (isDirectoryPath(hostPath) && tryStat(hostPath)?.isDirectory() === true)
    return closing(openHost(hostPath, OPEN_PLACE), nameIn(source))
  const path = resolve(hostPath)
  const name = basename(path)
  using held = new DisposableStack()
  const parent = held.use(closing(openHost(dirname(path), OPEN_PLACE), name))
  const found = tryStatAt(parent.fd, name)
  if (found?.isDirectory === true) return closing(openDirectoryOf(parent.fd, name, path), nameIn(source))
  if (found?.isSymlink === true && leadsToDirectory(path)) {
    throw new LoamError('USAGE', `copy to ${hostPath}: it is a symlink to a directory`, {
      hint: `To copy into that directory, end the path with a slash: ${hostPath}/`,
    })
  }
  checkFileTarget(hostPath, source, found === undefined ? undefined : found.isFile || found.isSymlink)
  held.move()
  return parent
}

/** Returns whether a symlink leads to a directory: one that this user cannot follow does not. */
function leadsToDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory()
  } catch {
    return false
  }
}

function openDirectoryOf(parent: number, name: string, path: string): number {
  try {
    return libc().openat(parent, name, OPEN_PLACE | constants.O_NOFOLLOW | O_CLOEXEC, 0)
  } catch (error) {
    throw toLoamError(error, `copy to ${path}`)
  }
}

/** Returns the place in a container, of which every symlink is resolved beneath its root. */
function openContainerTarget(
  container: CopyContainer,
  path: string,
  source: CopySource,
): Target & Disposable {
  const to = inContainer(container, path, true)
  const found = openFileInRoot(to, true)
  if (found === undefined) {
    checkFileTarget(`${container.id}:${path}`, source, undefined)
    const fd = openFileInRoot({ ...to, path: posix.dirname(to.path) }, true)
    if (fd !== undefined && FileStat.of(fd).isDirectory) return closing(fd, posix.basename(to.path))
    if (fd !== undefined) closeSync(fd)
    throw notFound(`to ${container.id}:${path}`, 'there is no such directory in the container')
  }
  const existing = closing(found, nameIn(source))
  const stat = FileStat.of(found)
  if (stat.isDirectory) return existing
  using _file = existing
  checkFileTarget(`${container.id}:${path}`, source, stat.isFile)
  const real = realPathOf(found, container.rootfsPath)
  return closing(openDirectoryInRoot({ ...to, path: posix.dirname(real) }), posix.basename(real))
}

/**
 * `isFile`: whether what is there is a regular file; undefined: nothing is there. @throws USAGE, PATH_NOT_FOUND for a target that has to be a
 * directory, and for a device, pipe or socket
 */
function checkFileTarget(path: string, source: CopySource, isFile: boolean | undefined): void {
  if (isFile === false) {
    throw new LoamError('USAGE', `copy to ${path}: it is a device, a pipe or a socket`, {
      hint: `Write to it by a program: ${source.instead}`,
    })
  }
  if (isFile === true && source.isDirectory)
    throw new LoamError('USAGE', `copy to ${path}: it is a file, and the source is a directory`)
  if (!source.isDirectory && isDirectoryPath(path)) throw notFound(`to ${path}`, 'there is no such directory')
}

/** Returns the name of a copy in a directory that exists; undefined for the content alone: of `DIRECTORY/.` and of the root. */
export function nameIn({ path, isDirectory }: Pick<CopySource, 'path' | 'isDirectory'>): string | undefined {
  const name = posix.basename(posix.normalize(path))
  const isContent = /(?:^|\/)\.$/.test(path) || name === '' || name === '..'
  return isDirectory && isContent ? undefined : name
}

function isDirectoryPath(path: string): boolean {
  return /(?:^|\/)\.{0,2}$/.test(path)
}

/** `isFollowed`: also a symlink at the end of the path. @throws USAGE for a path that leads into a mount of the runtime */
function inContainer(
  container: CopyContainer,
  path: string,
  isFollowed: boolean,
): { readonly root: string; readonly path: string } {
  const { id, rootfsPath, mounts } = container
  if (path.includes('\0')) throw new LoamError('USAGE', `copy ${id}: a path has no NUL`)
  const absolute = posix.resolve('/', path)
  const covered = findCovering(rootfsPath, mounts, { path: absolute, isFollowed })
  if (covered === undefined) return { root: rootfsPath, path: absolute }
  throw isMount(container, path, covered)
}

function isMount({ id, runs }: CopyContainer, path: string, mount: string): LoamError {
  const pipe = `use a pipe: loam exec ${id} cat FILE`
  return new LoamError('USAGE', `copy ${id}:${path}: ${mount} is a mount of the container`, {
    hint: `Copy to or from the source of the mount; or ${runs ? pipe : `start the container, and ${pipe}`}.`,
  })
}

/** Returns the mount that a path of a root filesystem leads into. Symlinks are resolved in the paths of both: /var/run may be /run. */
export function findCovering(
  root: string,
  mounts: readonly string[],
  { path, isFollowed }: { readonly path: string; readonly isFollowed: boolean },
): string | undefined {
  // What is behind a mount is not here: there the path cannot be resolved further, and need not.
  const asWritten = (mount: string) => `${path}/`.startsWith(posix.join('/', mount, '/'))
  const written = mounts.find(asWritten)
  if (written !== undefined || mounts.length === 0) return written
  const real = `${isFollowed ? resolveInRoot(root, path) : posix.join(resolveInRoot(root, posix.dirname(path)), posix.basename(path))}/`
  return mounts.find((mount) => real.startsWith(posix.join(resolveInRoot(root, mount), '/')))
}

/** Returns the mounts of a container beneath one of its directories, from there on. */
export function mountsBelow({ rootfsPath, mounts }: CopyContainer, directory: number): MountBelow[] {
  const above = posix.join(realPathOf(directory, rootfsPath), '/')
  return mounts.flatMap((mount) => {
    const real = resolveInRoot(rootfsPath, mount)
    return real.startsWith(above) && real !== above
      ? [{ parts: real.slice(above.length).split('/'), mount }]
      : []
  })
}

/** Resolves the symlinks of a path beneath a root, as far as its parts exist. */
function resolveInRoot(root: string, path: string): string {
  const absolute = posix.resolve('/', path)
  const fd = openFileInRoot({ root, path: absolute }, true)
  if (fd === undefined)
    return absolute === '/'
      ? '/'
      : posix.join(resolveInRoot(root, posix.dirname(absolute)), posix.basename(absolute))
  using _opened = closing(fd)
  return realPathOf(fd, root)
}

/** Returns where an open file of a root filesystem is, from its root on. */
function realPathOf(fd: number, root: string): string {
  const shown = readlinkSync(`/proc/self/fd/${fd}`)
  // The kernel adds this to the name of a file that was removed; another one may be named so.
  const path = FileStat.of(fd).links === 0 ? shown.replace(/ \(deleted\)$/, '') : shown
  return posix.join('/', path.slice(realpathSync(root).length))
}

function openHost(path: string, flags: number): number {
  try {
    return openSync(path, flags)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) throw notFound(path, 'it does not exist on this machine', error)
    throw toLoamError(error, `copy ${path}`)
  }
}

/** Describes a name in a directory, and follows no symlink; undefined if nothing has it. */
function tryStatAt(fd: number, name: string): FileStat | undefined {
  try {
    return FileStat.at(fd, name)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw toLoamError(error, `copy to ${name}`)
  }
}

function tryStat(path: string): Stats | undefined {
  return statSync(path, { throwIfNoEntry: false })
}

function notFound(path: string, why: string, cause?: unknown): LoamError {
  return new LoamError('PATH_NOT_FOUND', `copy ${path}: ${why}`, { cause })
}

function closing(fd: number, name?: string): Target & Disposable {
  return {
    fd,
    name,
    [Symbol.dispose]: () => {
      closeSync(fd)
    },
  }
}
