// Shared by the backends that put a writable folder of the container over a read-only tree, with overlayfs.
import { mkdirSync, readdirSync, rmdirSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { IngestArea } from '../content/index.ts'
import { LoamError } from '../errors/index.ts'
import {
  createFolders,
  hasIds,
  isMachineRoot,
  isRoot,
  mountOverlay,
  removeTreeSync,
  setDirectoryAttributes,
  toHostOwner,
  unmountAll,
} from '../linux/index.ts'
import { recordOwner } from '../tree/index.ts'
import type { LayerStack, Probe, ProvisionRequest, ProvisionResult } from './backend.ts'
import { limitedFolder, type LimitedFolders } from './limited-folders.ts'
import { probeFailure } from './probe-failure.ts'

/** Returns whether overlayfs can show an image. */
export function acceptsWritable({ layers }: LayerStack): Probe {
  const unsupported = layers.find(({ summary }) => summary.hasZeroDevices)
  if (unsupported === undefined) return { isSupported: true }
  return {
    isSupported: false,
    reason: `layer ${unsupported.diffId} holds a character device 0:0, which overlayfs treats as a whiteout`,
  }
}

/** Returns whether the store's file system supports writable folders. Mounts one to find out: no list of types is complete. @throws NO_SPACE */
export function probeWritable(ingest: IngestArea): Probe {
  if (!isRoot()) return { isSupported: false, reason: 'mounting needs root' }
  const base = ingest.newPath('probe')
  const [lower, upper, work, target] = ['lower', 'upper', 'work', 'target'].map((name) =>
    join(base, name),
  ) as [string, string, string, string]
  try {
    for (const path of [base, lower, upper, work, target]) mkdirSync(path)
    writeFileSync(join(lower, 'file'), '')
    mountOverlay({ lowers: [lower], upper, work, target, isReadOnly: false })
    // A directory over a directory shows whether renames and xattrs work, a removed file whether listings have file types.
    mkdirSync(join(target, 'a'))
    rmdirSync(join(target, 'a'))
    unlinkSync(join(target, 'file'))
    if (readdirSync(target).length === 0) return { isSupported: true }
    const reason = 'removed files stay visible: missing d_type support on the underlying file system'
    return { isSupported: false, reason }
  } catch (error) {
    return { isSupported: false, reason: probeFailure(error, 'mount a writable folder') }
  } finally {
    unmountAll(target)
    removeTreeSync(base)
  }
}

/** Creates the mount point of a root filesystem and the folders for its writes. */
export async function createWritableFolders(
  request: ProvisionRequest,
  limited: LimitedFolders,
): Promise<void> {
  const { scratchPath, sizeBytes, signal } = request
  const { upper, work } = writablePaths(request)
  if (sizeBytes !== undefined) await limited.create(scratchPath, { sizeBytes, signal })
  await createFolders([request.rootfsPath, upper, work])
  // An overlay's root has the attributes of the writable folder.
  const root = attributesHere(rootAttributes(request.stack))
  const { idMapping } = request
  // The writable folder is not mapped: its files have the IDs of this machine.
  setDirectoryAttributes(upper, idMapping === undefined ? root : { ...root, ...toHostOwner(idMapping, root) })
}

/** Shows the folders for the writes of a root filesystem again, if what limits them is a mount. @throws ROOTFS_UNMOUNTED */
export function restoreWritableFolders(
  { rootfsPath, scratchPath, sizeBytes }: ProvisionRequest,
  limited: LimitedFolders,
): void {
  if (sizeBytes === undefined || limited.attach(scratchPath)) return
  throw new LoamError('ROOTFS_UNMOUNTED', `restore ${rootfsPath}: the files written to it are gone`, {
    hint: '`loam destroy` removes the container.',
  })
}

/** Mounts the root filesystem over `lowers`, the topmost first. */
export function mountWritable(request: ProvisionRequest, lowers: readonly string[]): void {
  const { upper, work } = writablePaths(request)
  mountOverlay({ lowers, upper, work, target: request.rootfsPath, isReadOnly: request.isReadOnly })
}

/** The description of a root filesystem that was created this way. */
export function describeWritable(request: ProvisionRequest): ProvisionResult {
  const { upper, work } = writablePaths(request)
  return { ephemeralVolumes: [upper, work], isReadOnly: request.isReadOnly }
}

/** An image without layers is an empty root filesystem, with an empty folder of its own below. */
export function createEmptyLower({ scratchPath }: ProvisionRequest): string {
  const path = join(scratchPath, 'empty')
  mkdirSync(path, { recursive: true })
  return path
}

/** Returns the two folders for the writes of a root filesystem. */
export function writablePaths({
  scratchPath,
  sizeBytes,
}: Pick<ProvisionRequest, 'scratchPath' | 'sizeBytes'>): {
  readonly upper: string
  readonly work: string
} {
  const folder = sizeBytes === undefined ? scratchPath : limitedFolder(scratchPath)
  return { upper: join(folder, 'upper'), work: join(folder, 'work') }
}

/** Without the xattrs that root of a user namespace may not set; an owner without an ID there is recorded. */
function attributesHere(
  attributes: Parameters<typeof setDirectoryAttributes>[1],
): Parameters<typeof setDirectoryAttributes>[1] {
  if (isMachineRoot()) return attributes
  const xattrs = attributes.xattrs.filter(({ name }) => name.toString('latin1').startsWith('user.'))
  if (hasIds(attributes)) return { ...attributes, xattrs }
  return { ...attributes, uid: 0, gid: 0, xattrs: [...xattrs, ...recordOwner(attributes)] }
}

function rootAttributes({ layers }: LayerStack): Parameters<typeof setDirectoryAttributes>[1] {
  const root = layers.findLast(({ summary }) => summary.root !== undefined)?.summary.root
  if (root === undefined) {
    return { mode: 0o755, uid: 0, gid: 0, mtimeSeconds: 0, mtimeNanoseconds: 0, xattrs: [] }
  }
  const xattrs = root.xattrs.map(([name, value]) => ({
    name: Buffer.from(name, 'base64'),
    value: Buffer.from(value, 'base64'),
  }))
  return { ...root, xattrs }
}
