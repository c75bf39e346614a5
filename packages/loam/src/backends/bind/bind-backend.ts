import { mkdirSync } from 'node:fs'
import { LoamError } from '../../errors/index.ts'
import { isRoot, mountBind } from '../../linux/index.ts'
import type { Backend, BackendOptions, LayerStack, Probe, ProvisionRequest } from '../backend.ts'
import { removeRootfs } from '../removal.ts'
import { showsFolder } from '../standing.ts'

/** Shows the folder of a one-layer image itself, read-only: the cheapest backend, for containers that write nothing. */
export function bindBackend({ paths, layers }: BackendOptions): Backend {
  const mount = async (request: ProvisionRequest) => {
    mountBind(await findFolder(request), request.rootfsPath, true)
  }
  const findFolder = async ({ stack, signal }: ProvisionRequest): Promise<string> => {
    const [layer] = stack.layers
    if (layer === undefined || stack.chainId === undefined) {
      throw new LoamError('BACKEND_UNSUPPORTED', 'provision by bind: the image has no layer')
    }
    // A whiteout with nothing below it has no meaning, and must not be visible.
    if (layer.summary.hasWhiteouts || layer.summary.hasLowerLinks) {
      const whole = { chainId: stack.chainId, kind: 'flat', layers: [layer.diffId] } as const
      return layers.artifacts.createStack(whole, signal)
    }
    const [folder = ''] = await layers.artifacts.unpack([layer.diffId], signal)
    return folder
  }
  return {
    name: 'bind',
    isWritable: false,
    mapsIds: false,
    limitsSize: false,
    needsUnpacked: true,
    showsPartial: false,
    probe: () => (isRoot() ? { isSupported: true } : { isSupported: false, reason: 'mounting needs root' }),
    accepts,
    provision: async (request) => {
      mkdirSync(request.rootfsPath, { mode: 0o700 })
      await mount(request)
      return { ephemeralVolumes: [], isReadOnly: true }
    },
    isStanding: ({ rootfsPath, chainId, layers: [diffId] }, mounts) =>
      diffId !== undefined &&
      chainId !== undefined &&
      [layers.artifacts.path(diffId, 'unpacked'), layers.artifacts.path(chainId, 'flat')].some((folder) =>
        showsFolder(rootfsPath, folder, mounts),
      ),
    restore: async (request) => {
      mkdirSync(request.rootfsPath, { recursive: true, mode: 0o700 })
      await mount(request)
    },
    destroy: async (location) => removeRootfs(paths, location),
  }
}

function accepts({ layers }: LayerStack): Probe {
  if (layers.length !== 1) {
    return {
      isSupported: false,
      reason: `the image has ${layers.length} layers, and bind supports exactly one`,
    }
  }
  return { isSupported: true }
}
