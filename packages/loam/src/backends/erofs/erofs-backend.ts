import { mkdirSync } from 'node:fs'
import type { IngestArea } from '../../content/index.ts'
import { mountBind } from '../../linux/index.ts'
import type { Backend, BackendOptions, Probe, ProvisionRequest } from '../backend.ts'
import { removeRootfs } from '../removal.ts'
import { showsErofs, showsOverlay } from '../standing.ts'
import {
  acceptsWritable,
  describeWritable,
  createEmptyLower,
  createWritableFolders,
  mountWritable,
  probeWritable,
  restoreWritableFolders,
} from '../writable.ts'
import { probeErofs } from './probe.ts'
import type { StackMounts } from './stack-mounts.ts'

export interface ErofsBackendOptions extends BackendOptions {
  readonly stacks: StackMounts
}

/**
 * Shows an image from the tars of its layers, which are never unpacked: one EROFS image of names and attributes refers to
 * the data in all of them, and is mounted once for all containers. Each container has a writable folder over it, or a read-only
 * view of it.
 */
export function erofsBackend({ paths, layers, ingest, limited, stacks }: ErofsBackendOptions): Backend {
  let probed: Probe | undefined
  const withImage = async <T>(
    request: ProvisionRequest,
    use: (path: string | undefined) => T,
  ): Promise<T> => {
    const { chainId, layers: records } = request.stack
    if (chainId === undefined) return use(undefined)
    const diffIds = records.map(({ diffId }) => diffId)
    const stack = { chainId, diffIds, idMapping: request.idMapping }
    const { path, lease } = await stacks.lease(stack, request.signal)
    using _lease = lease
    return use(path)
  }
  const mount = async (request: ProvisionRequest) =>
    withImage(request, (image) => {
      if (image !== undefined && request.isReadOnly) mountBind(image, request.rootfsPath, true)
      else mountWritable(request, [image ?? createEmptyLower(request)])
    })
  return {
    name: 'erofs',
    isWritable: true,
    mapsIds: true,
    limitsSize: true,
    needsUnpacked: false,
    showsPartial: true,
    shared: stacks,
    probe: () => (probed ??= probeBoth(ingest())),
    accepts: acceptsWritable,
    provision: async (request) => {
      await createWritableFolders(request, limited)
      await mount(request)
      return describeWritable(request)
    },
    isStanding: (rootfs, mounts) =>
      rootfs.chainId !== undefined && rootfs.isReadOnly
        ? showsErofs(rootfs.rootfsPath, layers.artifacts.path(rootfs.chainId, 'merged'), mounts)
        : showsOverlay(rootfs, mounts),
    restore: async (request) => {
      mkdirSync(request.rootfsPath, { recursive: true, mode: 0o700 })
      restoreWritableFolders(request, limited)
      await mount(request)
    },
    destroy: async (location) => removeRootfs(paths, location, limited),
  }
}

/** The folders of an overlay: the image, and the writable folder over it. */
function probeBoth(ingest: IngestArea): Probe {
  const image = probeErofs(ingest)
  return image.isSupported ? probeWritable(ingest) : image
}
