import { mkdirSync } from 'node:fs'
import { LoamError } from '../../errors/index.ts'
import type { DiffId } from '../../image/index.ts'
import type { LayerStore } from '../../layers/index.ts'
import { MAX_OVERLAY_LOWERS } from '../../linux/index.ts'
import type { Backend, BackendOptions, LayerStack, Probe, ProvisionRequest } from '../backend.ts'
import { removeRootfs } from '../removal.ts'
import { showsOverlay } from '../standing.ts'
import {
  acceptsWritable,
  describeWritable,
  createEmptyLower,
  createWritableFolders,
  mountWritable,
  probeWritable,
  restoreWritableFolders,
} from '../writable.ts'

/**
 * Stacks the layers' folders with overlayfs, with a writable folder of the container on top. Nothing is copied; any number
 * of layers. Some layers cannot be shown correctly by stacking alone (directories that a layer does not list, hard links
 * across layers, whiteouts of missing files): a small folder on top of them, built once for each stack, corrects that.
 */
export function overlayBackend({ paths, layers, ingest, limited }: BackendOptions): Backend {
  let probed: Probe | undefined
  return {
    name: 'overlay',
    isWritable: true,
    mapsIds: false,
    limitsSize: true,
    needsUnpacked: true,
    showsPartial: false,
    probe: () => (probed ??= probeWritable(ingest())),
    accepts: acceptsWritable,
    provision: async (request) => {
      await createWritableFolders(request, limited)
      mountWritable(request, await findLowers(request, layers))
      return describeWritable(request)
    },
    isStanding: showsOverlay,
    restore: async (request) => {
      mkdirSync(request.rootfsPath, { recursive: true, mode: 0o700 })
      restoreWritableFolders(request, limited)
      mountWritable(request, await findLowers(request, layers))
    },
    destroy: async (location) => removeRootfs(paths, location, limited),
  }
}

/** Returns the folders to stack, the topmost first, and builds missing ones. */
async function findLowers(request: ProvisionRequest, layers: LayerStore): Promise<string[]> {
  const { stack, signal } = request
  const stacked = stackedLayers(stack)
  if (stacked.length === 0) return [createEmptyLower(request)]
  const needsFixup = isFixupNeeded(stack)
  if (stacked.length + (needsFixup ? 1 : 0) > MAX_OVERLAY_LOWERS) {
    return [await createStack(request, layers, 'flat')]
  }
  const folders = await layers.artifacts.unpack(stacked, signal)
  return needsFixup ? [await createStack(request, layers, 'fixup'), ...folders] : folders
}

/**
 * The layers that are visible, the topmost first. A layer that occurs twice is taken at its topmost position, which shows
 * the same, and overlayfs refuses it twice; below a layer that hides everything, nothing is visible.
 */
function stackedLayers({ layers }: LayerStack): DiffId[] {
  const stacked = new Set<DiffId>()
  for (const layer of layers.toReversed()) {
    stacked.add(layer.diffId)
    if (layer.summary.hasOpaqueRoot) break
  }
  return [...stacked]
}

/** Returns whether the folders may show something other than the merged tree; `planFixup` then finds the differences. */
function isFixupNeeded({ layers }: LayerStack): boolean {
  return layers.some(
    ({ summary }, index) =>
      summary.hasLowerLinks || summary.hasWhiteouts || (index > 0 && summary.hasImplicitDirectories),
  )
}

async function createStack(
  { stack, signal }: ProvisionRequest,
  layers: LayerStore,
  kind: 'fixup' | 'flat',
): Promise<string> {
  if (stack.chainId === undefined)
    throw new LoamError('INTERNAL', 'provision: a stack of layers without a name')
  const diffIds = stack.layers.map(({ diffId }) => diffId)
  return layers.artifacts.createStack({ chainId: stack.chainId, kind, layers: diffIds }, signal)
}
