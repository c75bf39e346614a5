import { LoamError } from '../errors/index.ts'
import {
  type Descriptor,
  type DiffId,
  type Digest,
  digestOf,
  isDigest,
  isForeign,
  listReferences,
  parseImageConfig,
  splitDigest,
} from '../image/index.ts'
import type { ContainerdCall, ContainerdContent, ContainerdImage } from '../nodes/index.ts'
import { counting } from '../exports/index.ts'
import { BlobSupply } from './blob-supply.ts'
import { layerIn } from './layer-labels.ts'
import type { FetchOptions } from './requests.ts'
import type { ImageServices } from './services.ts'

/** Maximum depth of nested indexes. */
const MAX_DEPTH = 4
/** What keeps the blobs until their manifest refers to them. */
const LEASE_MS = 24 * 60 * 60 * 1000
/** Labels of containerd: what a document refers to, the repository that a blob is from, and the layer of a compressed blob. */
const REFERS_TO = 'containerd.io/gc.ref.content.l.'
const DISTRIBUTED_BY = 'containerd.io/distribution.source.'
const UNCOMPRESSED = 'containerd.io/uncompressed'

/** Options of bringing blobs into the content store of containerd. */
export interface FetchContentOptions extends FetchOptions {
  /** A namespace of containerd. Undefined: all that have the image. */
  readonly namespace?: string | undefined
}

/** A blob of an image. */
export interface FetchedBlob {
  /** Its digest. */
  readonly digest: Digest
  /** Its size. */
  readonly sizeBytes: number
  /** Where it came from: `exists` if containerd had it, the store, the retained blobs, or its source. */
  readonly from: 'exists' | 'store' | 'retained' | 'source'
}

/** An image of a namespace of containerd whose blobs are all in its content store. */
export interface FetchedContent {
  /** The namespace. */
  readonly namespace: string
  /** The name there. */
  readonly name: string
  /** Digest of its manifest or index. */
  readonly digest: Digest
  /** Configs and layers of the manifests that containerd has. */
  readonly blobs: readonly FetchedBlob[]
}

type ContentServices = Pick<
  ImageServices,
  'metadata' | 'layers' | 'blobs' | 'ingest' | 'sources' | 'retained'
>

/**
 * Brings the missing blobs of an image of containerd into its content store, verified, so that it can export and push the image. Blobs that were written stay on
 * failure. @throws IMAGE_NOT_FOUND if containerd does not have the image, LAYER_NOT_FOUND, DOCUMENT_INVALID, DIGEST_MISMATCH, DAEMON_UNAVAILABLE
 */
export async function fetchContent(
  services: ContentServices,
  containerd: ContainerdContent,
  image: string,
  options: FetchContentOptions,
): Promise<FetchedContent[]> {
  const { namespace: only, signal } = options
  const names = isDigest(image) ? [image] : [image, services.sources.nameInStore(image)]
  const namespaces = only === undefined ? await containerd.namespaces(signal) : [only]
  const found: FetchedContent[] = []
  for (const namespace of namespaces) {
    const own = { namespace, signal }
    const images = (await containerd.images(own)).filter(
      ({ name, target }) => names.includes(name) || target.digest === image,
    )
    if (images.length === 0) continue
    const lease = await containerd.createLease(Date.now() + LEASE_MS, own)
    const call = { ...own, lease }
    for (const each of images) {
      const blobs = await new ContentFetch({ services, containerd, call, options }, each).run()
      found.push({ namespace, name: each.name, digest: each.target.digest, blobs })
    }
    await containerd.removeLease(lease, own)
  }
  if (found.length > 0) return found
  throw new LoamError(
    'IMAGE_NOT_FOUND',
    `fetch the content of ${image}: ${only === undefined ? 'no namespace' : `namespace ${only}`} of containerd has an image of that name`,
    { hint: '`ctr namespaces ls` and `ctr --namespace NAME images ls` list them.' },
  )
}

interface ContentFetchOptions {
  readonly services: ContentServices
  readonly containerd: ContainerdContent
  readonly call: ContainerdCall
  readonly options: FetchContentOptions
}

class ContentFetch {
  readonly #options: ContentFetchOptions
  readonly #image: ContainerdImage
  readonly #supply: BlobSupply
  readonly #fetched = new Map<Digest, FetchedBlob>()
  #sources: ReadonlyMap<string, readonly string[]> | undefined

  constructor(options: ContentFetchOptions, image: ContainerdImage) {
    this.#options = options
    this.#image = image
    this.#supply = new BlobSupply(options.services, { attempted: 'fetch', image: options.options })
  }

  async run(): Promise<FetchedBlob[]> {
    const { containerd, call } = this.#options
    const { name, target } = this.#image
    if ((await containerd.find(target.digest, call)) === undefined) {
      throw new LoamError(
        'DOCUMENT_DAMAGED',
        `fetch the content of ${name}: containerd lacks ${target.digest}`,
        {
          hint: `Pull it again: ctr --namespace ${call.namespace} images pull ${name}`,
        },
      )
    }
    await this.#complete(target, 0)
    return [...this.#fetched.values()]
  }

  /** Completes a manifest, or those of an index that containerd has: it pulls one platform. */
  async #complete(document: Descriptor, depth: number): Promise<void> {
    const { containerd, call } = this.#options
    const what = `manifest ${document.digest}`
    if (depth > MAX_DEPTH)
      throw new LoamError('DOCUMENT_INVALID', `fetch ${what}: more than ${MAX_DEPTH} nested indexes`)
    const labels = await containerd.find(document.digest, call)
    if (labels === undefined) return
    const { manifests, blobs } = listReferences(await this.#read(document, 'manifest'), what)
    for (const child of manifests) await this.#complete(child, depth + 1)
    const [config, ...layers] = blobs
    if (config === undefined) return
    await this.#fetch(config, undefined)
    const diffIds = await this.#diffIdsOf(config, layers.length)
    for (const [index, layer] of layers.entries()) await this.#fetch(layer, diffIds[index])
    const referred = new Set(labels.values())
    const missing = layers.flatMap(({ digest }, index) =>
      referred.has(digest) || !this.#fetched.has(digest) ? [] : [[`${REFERS_TO}${index}`, digest] as const],
    )
    await containerd.label(document.digest, Object.fromEntries(missing), call)
  }

  async #read({ digest }: Pick<Descriptor, 'digest'>, kind: 'manifest' | 'config'): Promise<Buffer> {
    const { containerd, call, services } = this.#options
    const { manifestBytes, configBytes } = services.sources.documentLimits
    const bytes = await containerd.read(digest, kind === 'manifest' ? manifestBytes : configBytes, call)
    const actual = digestOf(bytes, splitDigest(digest).algorithm)
    if (actual === digest) return bytes
    throw new LoamError('DIGEST_MISMATCH', `read ${kind} ${digest} of containerd: its digest is ${actual}`)
  }

  /** Returns the layers' diffIDs; none for what is not an image of a root filesystem. */
  async #diffIdsOf(config: Descriptor, layers: number): Promise<readonly DiffId[]> {
    if (!/\.(?:image|container\.image)\..*config.*json$/.test(config.mediaType)) return []
    const { diffIds } = parseImageConfig(await this.#read(config, 'config'), `config ${config.digest}`)
    return diffIds.length === layers ? diffIds : []
  }

  async #fetch(blob: Descriptor, diffId: DiffId | undefined): Promise<void> {
    const { digest, sizeBytes } = blob
    // Blobs that must not be distributed stay at their own addresses.
    if (this.#fetched.has(digest) || isForeign(blob)) return
    const { containerd, call, options } = this.#options
    if ((await containerd.find(digest, call)) !== undefined) {
      this.#fetched.set(digest, { digest, sizeBytes, from: 'exists' })
      return
    }
    const progress = (doneBytes: number, isDone: boolean) =>
      options.onEvent?.({
        kind: 'work',
        what: `write ${digest.slice(0, 19)}`,
        doneBytes,
        totalBytes: sizeBytes,
        isDone,
      })
    const labels = this.#labelsOf(diffId)
    const layer = diffId === undefined ? undefined : { diffId }
    const wanted = { origins: this.#originsOf(digest), layer }
    const from = await this.#supply.withBlob(blob, wanted, async (open) => {
      let doneBytes = 0
      const data = counting(open(), (bytes) => {
        doneBytes += bytes
        progress(doneBytes, false)
      })
      await containerd.write({ digest, sizeBytes, labels, data }, call)
    })
    progress(sizeBytes, true)
    this.#fetched.set(digest, { digest, sizeBytes, from })
  }

  #labelsOf(diffId: DiffId | undefined): Record<string, string> {
    const name = this.#parse(this.#image.name)
    const place =
      name?.transport === 'docker'
        ? { [`${DISTRIBUTED_BY}${name.reference.registry}`]: name.reference.repository }
        : {}
    return diffId === undefined ? place : { ...place, [UNCOMPRESSED]: diffId }
  }

  /** The image itself, where the store had the blob from, and the images that snapshots of its layer were prepared for: that of a commit is in no registry. */
  #originsOf(digest: Digest): string[] {
    const { metadata } = this.#options.services
    this.#sources ??= sourcesOfLayers(metadata)
    const all = [this.#image.name, ...metadata.origins.list(digest), ...(this.#sources.get(digest) ?? [])]
    return [...new Set(all)].filter((origin) => this.#parse(origin) !== undefined)
  }

  #parse(name: string) {
    try {
      return this.#options.services.sources.parse(name).name
    } catch {
      return undefined
    }
  }
}

/** Returns the images that snapshots were prepared for, by the digests of the blobs of their layers. */
function sourcesOfLayers({ snapshots }: ContentServices['metadata']): Map<string, string[]> {
  const named = [...snapshots.list()].flatMap(({ labels }) => layerIn(labels) ?? [])
  const sources = new Map<string, string[]>()
  for (const { blob, reference } of named) {
    const known = sources.get(blob)
    if (known === undefined) sources.set(blob, [reference])
    else if (!known.includes(reference)) known.push(reference)
  }
  return sources
}
