import { sweepPartials } from '../content/index.ts'
import { isLoamError, LoamError, toLoamError } from '../errors/index.ts'
import { chainIds, type DiffId } from '../image/index.ts'
import type { FileLock } from '../linux/index.ts'
import type { ImageRecord } from '../metadata/index.ts'
import { type RemoteLayer, type RemoteLayers, SNAPSHOT_REF } from '../snapshotter/index.ts'
import { askedBy, formatImageName, type ImageName } from '../sources/index.ts'
import { describeLeftOut } from '../stores/index.ts'
import type { ImageServices } from './services.ts'

type RemoteLayerServices = Pick<
  ImageServices,
  'paths' | 'layers' | 'stores' | 'sources' | 'prefetch' | 'reserve' | 'hasPolicy'
>

/** The labels that clients write: CRI, nerdctl and containerd 2, and ctr-remote. */
const REFERENCE_LABELS = [
  'containerd.io/snapshot/cri.image-ref',
  'containerd.io/snapshot/remote/stargz.reference',
]
const DIGEST_LABELS = [
  'containerd.io/snapshot/cri.layer-digest',
  'containerd.io/snapshot/remote/stargz.digest',
]
/** Blobs of the layer and of those above it that the client is going to request, separated by commas. */
const ANNOUNCED_LABELS = [
  'containerd.io/snapshot/cri.image-layers',
  'containerd.io/snapshot/remote/stargz.layers',
]
const MANIFEST_LABEL = 'containerd.io/snapshot/cri.manifest-digest'

/** Images whose documents are cached, so that each layer of an image need not ask again. */
const MAX_KNOWN = 200

export interface RemoteLayersOptions {
  /** Called for each layer that is left to the client, with the reason. */
  readonly onLeft?: ((reason: { readonly ref: string; readonly reason: string }) => void) | undefined
  /** Called with a note for each layer that shows less than its tar contains. */
  readonly onNote?: ((note: { readonly ref: string; readonly text: string }) => void) | undefined
}

type Labels = Readonly<Record<string, string>>
type ImageLayer = ImageRecord['layers'][number]

/** An image as the client's user requested it, and as it was found. */
interface NamedImage {
  readonly asked: ImageName
  readonly pinned: ImageName
}

/**
 * Creates the source of layers that remote-aware clients name by labels. A layer that it cannot provide is left to the client; a layer that the
 * signature policy forbids is refused, and so is every layer on a full disk. `canShow` returns whether this machine can show layers that are not unpacked.
 */
export function createRemoteLayers(
  services: RemoteLayerServices,
  { onLeft, onNote, canShow }: RemoteLayersOptions & { readonly canShow: () => boolean },
): RemoteLayers {
  const known = new Map<string, Promise<ImageRecord>>()

  const describe = async ({ asked, pinned }: NamedImage): Promise<ImageRecord> => {
    const name = `${formatImageName(pinned)} ${formatImageName(asked)}`
    const found = known.get(name)
    if (found !== undefined) return found
    // The client has found the digest; a policy evaluates the requested name.
    const describing = services.sources.with(pinned, {}, async (source) =>
      services.stores.docker.describe(Object.assign(source, { asked: askedBy(asked) }), { cached: true }),
    )
    known.set(name, describing)
    describing.catch(() => known.delete(name))
    const oldest = known.keys().next().value
    if (known.size > MAX_KNOWN && oldest !== undefined) known.delete(oldest)
    return describing
  }

  const fetchLayer = async (labels: Labels, below: readonly DiffId[]): Promise<RemoteLayer | string> => {
    const reference = valueOf(labels, REFERENCE_LABELS)
    const digest = valueOf(labels, DIGEST_LABELS)
    const ref = labels[SNAPSHOT_REF]
    if (reference === undefined || digest === undefined) return 'its labels do not identify the image'
    const named = nameImage(services, reference, labels)
    const name = named.pinned
    const image = await describe(named)
    const { index, chainId } = findLayer(image, ref)
    const layer = image.layers[index]
    const what = `image ${formatImageName(name)}`
    if (layer === undefined || chainId === undefined) return `${what} does not have this layer`
    if (layer.blobDigest !== digest) return `${what} has a different blob for this layer`
    if (
      below.join() !==
      image.layers
        .slice(0, index)
        .map(({ diffId }) => diffId)
        .join()
    ) {
      return 'its parent has other layers'
    }
    const following = new Set(valueOf(labels, ANNOUNCED_LABELS)?.split(','))
    const announced = image.layers.slice(index + 1).filter(({ blobDigest }) => following.has(blobDigest))
    const lease = await claimLayer(services, name, { layer, announced })
    const { tarBytes, summary } = services.layers.get(layer.diffId)
    if (summary.hasZeroDevices) {
      lease.release()
      return 'it holds a character device 0:0, which overlayfs cannot show'
    }
    if (summary.leftOutXattrs !== undefined)
      onNote?.({ ref: chainId, text: describeLeftOut(layer.blobDigest, summary.leftOutXattrs) })
    return { diffId: layer.diffId, chainId, lease, usage: { sizeBytes: tarBytes, inodes: summary.entries } }
  }

  const admit = async (labels: Labels): Promise<void> => {
    const reference = valueOf(labels, REFERENCE_LABELS)
    if (reference === undefined || !services.hasPolicy) return
    const image = await describe(nameImage(services, reference, labels))
    const ref = labels[SNAPSHOT_REF]
    if (ref !== undefined && findLayer(image, ref).chainId === undefined) throw otherImage(ref, reference)
  }

  const fetch = async (labels: Labels, below: readonly DiffId[]): Promise<RemoteLayer | undefined> => {
    const left = (reason: string) => {
      onLeft?.({ ref: labels[SNAPSHOT_REF] ?? '', reason })
      return undefined
    }
    if (!canShow()) return left('this machine cannot mount layers without unpacking them')
    try {
      const layer = await fetchLayer(labels, below)
      return typeof layer === 'string' ? left(layer) : layer
    } catch (error) {
      if (isFull(error)) throw error
      return left(error instanceof Error ? error.message : String(error))
    }
  }

  return { admit, fetch }
}

/** A client that unpacked the layer itself would fill the same disk: without space the pull fails, and leaves nothing. @throws as `LayerPrefetch.claim` */
async function claimLayer(
  { paths, prefetch, layers, reserve }: Pick<ImageServices, 'paths' | 'prefetch' | 'layers' | 'reserve'>,
  name: ImageName,
  { layer, announced }: { readonly layer: ImageLayer; readonly announced: readonly ImageLayer[] },
): Promise<FileLock> {
  try {
    return await prefetch.claim(name, layer, announced)
  } catch (error) {
    if (!isFull(error)) throw error
    await prefetch.abandon(announced)
    await sweepPartials(paths)
    await reserve.freeLater(async () => {
      await layers.prune()
      await layers.settle()
    })
    throw error
  }
}

function isFull(error: unknown): boolean {
  return isLoamError(toLoamError(error, 'bring in a layer'), 'NO_SPACE')
}

function valueOf(labels: Labels, names: readonly string[]): string | undefined {
  return names.map((name) => labels[name]).find((value) => value !== undefined && value !== '')
}

function nameImage(
  { sources }: Pick<ImageServices, 'sources'>,
  reference: string,
  labels: Labels,
): NamedImage {
  const asked = sources.parse(reference).name
  return { asked, pinned: sources.parse(pin(reference, labels[MANIFEST_LABEL])).name }
}

/** The registry has given the client an image other than the allowed one. */
function otherImage(ref: string, reference: string): LoamError {
  return new LoamError(
    'POLICY_REFUSED',
    `use layer ${ref}: ${reference} is allowed but does not have this layer`,
    {
      hint: 'Pull the image again: its tag may have moved.',
    },
  )
}

function findLayer({ layers }: ImageRecord, ref: string | undefined) {
  const chain = chainIds(layers.map(({ diffId }) => diffId))
  const index = chain.findIndex((chainId) => chainId === ref)
  return { index, chainId: chain[index] }
}

/** A tag may refer to another image by now. */
function pin(reference: string, manifestDigest: string | undefined): string {
  if (manifestDigest === undefined || reference.includes('@')) return reference
  return `${reference.replace(/:[\w.-]+$/, '')}@${manifestDigest}`
}
