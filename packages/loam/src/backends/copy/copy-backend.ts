import { closeSync, existsSync, mkdirSync, openSync, statSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { IngestArea } from '../../content/index.ts'
import { LoamError } from '../../errors/index.ts'
import {
  canGiveFiles,
  isMountPoint,
  isNamespaceRoot,
  isRoot,
  libc,
  mountBind,
  removeTreeSync,
  visibleMount,
} from '../../linux/index.ts'
import type { Backend, BackendOptions, Probe, ProvisionRequest } from '../backend.ts'
import { probeFailure } from '../probe-failure.ts'
import { removeRootfs } from '../removal.ts'
import { isReadable, showsFolder } from '../standing.ts'

/**
 * Creates every root filesystem as a separate folder, from the merged tree, each path once. Works wherever files can
 * be created. Where the file system shares data between files (btrfs, xfs), files are clones of the layers' files and
 * take no space until they are written to.
 */
export function copyBackend({ paths, layers, ingest }: BackendOptions): Backend {
  let canClone: boolean | undefined
  // A layer's folder for overlay has xattrs that only root can set.
  const clones = () => (canClone ??= isRoot() && probeClone(ingest()))
  const protect = (request: ProvisionRequest) => {
    if (request.isReadOnly && !isMountPoint(request.rootfsPath)) {
      mountBind(request.rootfsPath, request.rootfsPath, true)
    }
  }
  return {
    name: 'copy',
    isWritable: true,
    mapsIds: false,
    limitsSize: false,
    get needsUnpacked() {
      return clones()
    },
    probe: (): Probe => ({
      isSupported: true,
      note: `${clones() ? 'files share data (reflink)' : 'each root filesystem is a full copy'}${noteOnUser()}`,
    }),
    showsPartial: false,
    accepts: () => ({ isSupported: true }),
    provision: async (request) => {
      const { stack, rootfsPath, signal } = request
      const diffIds = stack.layers.map(({ diffId }) => diffId)
      const fromUnpacked = clones()
      if (fromUnpacked) await layers.artifacts.unpack(diffIds, signal)
      await layers.trees.copyTo(rootfsPath, diffIds, { fromUnpacked, signal })
      // An acknowledged root filesystem is complete after a power cut: it cannot be rebuilt with the data written to it.
      await layers.trees.sync(paths.root)
      protect(request)
      return { ephemeralVolumes: [], isReadOnly: request.isReadOnly }
    },
    isStanding: ({ rootfsPath, isReadOnly }, mounts) =>
      isReadOnly
        ? showsFolder(rootfsPath, rootfsPath, mounts) && isSameDevice(rootfsPath, dirname(rootfsPath))
        : isReadable(rootfsPath) && visibleMount(rootfsPath, mounts) === undefined,
    restore: async (request) => {
      if (!existsSync(request.rootfsPath)) {
        throw new LoamError(
          'ROOTFS_UNMOUNTED',
          `restore ${request.rootfsPath}: its directory does not exist`,
          {
            hint: 'A copy and the changes in it cannot be restored: `loam destroy` the container.',
          },
        )
      }
      protect(request)
    },
    destroy: async (location) => removeRootfs(paths, location),
  }
}

function noteOnUser(): string {
  return [
    isNamespaceRoot() ? '; the default of `provision`: programs outside of the user namespace see it' : '',
    canGiveFiles()
      ? ''
      : '; without root, all files belong to you and their owners are recorded in user.rootlesscontainers',
  ].join('')
}

function isSameDevice(path: string, other: string): boolean {
  return statSync(path).dev === statSync(other).dev
}

/** Returns whether the store's file system shares data between files. @throws NO_SPACE */
function probeClone(ingest: IngestArea): boolean {
  const base = ingest.newPath('probe')
  try {
    mkdirSync(base)
    using from = newFile(join(base, 'from'))
    using to = newFile(join(base, 'to'))
    writeSync(from.fd, Buffer.alloc(4096, 1))
    libc().ficlone(to.fd, from.fd)
    return true
  } catch (error) {
    probeFailure(error, 'clone a file')
    return false
  } finally {
    removeTreeSync(base)
  }
}

function newFile(path: string): Disposable & { readonly fd: number } {
  const fd = openSync(path, 'wx+')
  return {
    fd,
    [Symbol.dispose]: () => {
      closeSync(fd)
    },
  }
}
