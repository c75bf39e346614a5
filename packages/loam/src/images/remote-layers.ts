import { LoamError } from '../errors/index.ts'
import { chainIds, type DiffId, type ImageReference } from '../image/index.ts'
import { isFull, makeRoom } from '../layers/index.ts'
import type { FileLock } from '../linux/index.ts'
import type { ImageRecord } from '../metadata/index.ts'
import type { CredentialSource } from '../registry/index.ts'
import { type RemoteLayer, type RemoteLayers, SNAPSHOT_REF } from '../snapshotter/index.ts'
import { formatImageName } from '../sources/index.ts'
import { describeLeftOut } from '../stores/index.ts'
import type { ImageSession, NamedImage } from './image-sessions.ts'
import {
  announcedIn,
  imageIn,
  type LabeledLayer,
  type Labels,
  layerIn,
  pinnedReference,
} from './layer-labels.ts'
import { leftByError, leftFor, type LeftLayer, tellLeft } from './left-layer.ts'
import type { ImageServices } from './services.ts'

type RemoteLayerServices = Pick<
  ImageServices,
  'activity' | 'paths' | 'layers' | 'stores' | 'sources' | 'sessions' | 'prefetch' | 'reserve' | 'hasPolicy'
>

/** Images whose documents are cached, so that each layer of an image need not ask again. */
const MAX_KNOWN = 200

export interface RemoteLayersOptions {
  /** Called for each layer that is left to the client. */
  readonly onLeft?: ((left: LeftLayer) => void) | undefined
  /** Called with a note for each layer that shows less than its tar contains. */
  readonly onNote?: ((note: { readonly ref: string; readonly text: string }) => void) | undefined
  /** Returns the credentials that clients have given for an image, in the order in which they are tried; those of the configuration come last. */
  readonly credentialsFor?: ((image: ImageReference) => readonly CredentialSource[]) | undefined
}

type ImageLayer = ImageRecord['layers'][number]
type Left = Omit<LeftLayer, 'image' | 'ref'>

/**
 * Creates the source of layers that remote-aware clients name by labels. A layer that it cannot provide is left to the client; a layer that the
 * signature policy forbids is refused, and so is every layer on a full disk. `canShow` returns whether this machine can show layers that are not unpacked.
 */
export function createRemoteLayers(
  services: RemoteLayerServices,
  { canShow, ...options }: RemoteLayersOptions & { readonly canShow: () => boolean },
): RemoteLayers {
  const { findImage, fetchLayer, withSession } = createLayerFetch(services, options)

  const admit = async (labels: Labels): Promise<void> => {
    const reference = imageIn(labels)
    const ref = labels[SNAPSHOT_REF]
    const mayShowPartial = services.layers.partial.isAny()
    if (reference === undefined || !(services.hasPolicy || mayShowPartial)) return
    const named = nameImage(services, reference, labels)
    const image = await findAdmitted(named)
    if (image === undefined || ref === undefined) return
    const { index, chainId } = findLayer(image, ref)
    const layer = image.layers[index]
    if (layer === undefined || chainId === undefined) {
      if (services.hasPolicy) throw otherImage(ref, reference)
      return
    }
    await withSession(named, async (session) => services.prefetch.admit(session, { image, layer }))
  }

  /** Without a policy an image that is not found forbids nothing: its layers are left to the client. */
  const findAdmitted = async (named: NamedImage): Promise<ImageRecord | undefined> => {
    try {
      return await findImage(named)
    } catch (error) {
      if (services.hasPolicy) throw error
      return undefined
    }
  }

  const tryFetch = async (
    labels: Labels,
    below: readonly DiffId[] | undefined,
  ): Promise<RemoteLayer | Left> => {
    if (!canShow())
      return leftFor('unsupported-machine', 'this machine cannot mount layers without unpacking them')
    const labeled = layerIn(labels)
    if (labeled === undefined) return leftFor('not-named', 'its labels do not identify the image')
    if (below === undefined) return leftFor('unpacked-parent', 'the layer below it is unpacked')
    try {
      return await fetchLayer(labels, below, labeled)
    } catch (error) {
      if (isFull(error)) throw error
      return leftByError(error)
    }
  }

  const fetch: RemoteLayers['fetch'] = async (labels, below) => {
    const found = await tryFetch(labels, below)
    if (!('cause' in found)) return found
    const left = { ...found, image: imageIn(labels), ref: labels[SNAPSHOT_REF] ?? '' }
    await tellLeft(services.activity, left)
    options.onLeft?.(left)
    return undefined
  }

  return { admit, fetch }
}

function createLayerFetch(
  services: RemoteLayerServices,
  { onNote, credentialsFor }: Pick<RemoteLayersOptions, 'onNote' | 'credentialsFor'>,
) {
  const known = new Map<string, ImageRecord>()
  // Each session asks with its own credential: the refusal of one is not that of another.
  const describing = new WeakMap<ImageSession, Promise<ImageRecord>>()

  const describe = async (session: ImageSession): Promise<ImageRecord> => {
    const { name, signal } = session
    const found = known.get(name)
    if (found !== undefined) return found
    const ask = async () => {
      const image = await session.with(async (source) =>
        services.stores.docker.describe(source, { cached: true, signal }),
      )
      known.set(name, image)
      const oldest = known.keys().next().value
      if (known.size > MAX_KNOWN && oldest !== undefined) known.delete(oldest)
      return image
    }
    const asked = describing.get(session) ?? ask()
    describing.set(session, asked)
    const forget = () => describing.delete(session)
    asked.then(forget, forget)
    return asked
  }

  const withSession = async <T>(
    named: NamedImage,
    act: (session: ImageSession) => Promise<T>,
  ): Promise<T> => {
    const { asked } = named
    const given = asked.transport === 'docker' ? credentialsFor?.(asked.reference) : undefined
    return services.sessions.tryEach(named, given ?? [], act)
  }

  const fetchLayer = async (
    labels: Labels,
    below: readonly DiffId[],
    labeled: LabeledLayer,
  ): Promise<RemoteLayer | Left> => {
    const named = nameImage(services, labeled.reference, labels)
    return withSession(named, async (session) => {
      const image = await describe(session)
      const { index, chainId } = findLayer(image, labeled.ref)
      const layer = image.layers[index]
      const what = `image ${formatImageName(named.pinned)}`
      if (layer === undefined || chainId === undefined)
        return leftFor('other-image', `${what} does not have this layer`)
      if (layer.blobDigest !== labeled.blob)
        return leftFor('other-image', `${what} has a different blob for this layer`)
      const expected = image.layers.slice(0, index).map(({ diffId }) => diffId)
      if (below.join() !== expected.join()) return leftFor('other-parent', 'its parent has other layers')
      const announced = announcedIn(labels, image.layers.slice(index + 1))
      const brought = await bring(services, session, { image, layer, announced })
      if ('cause' in brought) return brought
      const { lease, summary, usage } = brought
      if (summary.leftOutXattrs !== undefined)
        onNote?.({ ref: chainId, text: describeLeftOut(layer.blobDigest, summary.leftOutXattrs) })
      return { diffId: layer.diffId, chainId, lease, usage }
    })
  }

  return { findImage: async (named: NamedImage) => withSession(named, describe), fetchLayer, withSession }
}

interface WantedLayer {
  readonly image: ImageRecord
  readonly layer: ImageLayer
  readonly announced: readonly ImageLayer[]
}

async function bring(services: RemoteLayerServices, session: ImageSession, wanted: WantedLayer) {
  const lease = await claimLayer(services, session, wanted)
  const { tarBytes, summary } = services.layers.getLazily(wanted.layer.diffId)
  if (summary.hasZeroDevices) {
    lease.release()
    return leftFor('unsupported-layer', 'it holds a character device 0:0, which overlayfs cannot show')
  }
  return { lease, summary, usage: { sizeBytes: tarBytes, inodes: summary.entries } }
}

/** A client that unpacked the layer itself would fill the same disk: without space the pull fails, and leaves nothing. @throws as `LayerPrefetch.claim` */
async function claimLayer(
  { paths, prefetch, layers, reserve }: Pick<ImageServices, 'paths' | 'prefetch' | 'layers' | 'reserve'>,
  session: ImageSession,
  { image, layer, announced }: WantedLayer,
): Promise<FileLock> {
  try {
    return await prefetch.claim(session, { image, layer }, announced)
  } catch (error) {
    if (!isFull(error)) throw error
    await prefetch.abandon(announced)
    await makeRoom({ paths, layers, reserve })
    throw error
  }
}

function nameImage(
  { sources }: Pick<ImageServices, 'sources'>,
  reference: string,
  labels: Labels,
): NamedImage {
  const asked = sources.parse(reference).name
  return { asked, pinned: sources.parse(pinnedReference(reference, labels)).name }
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
