import { LoamError } from '../../errors/index.ts'
import {
  type AppcImageId,
  type AppcManifest,
  type AppcName,
  appcPlatform,
  type DiffId,
  formatAppcName,
  isAppcImageId,
  isDigest,
  createAppcName,
  type Platform,
  readAppcManifest,
  suitsAppcName,
  MEDIA_TYPES,
  describeBytes,
  formatConfig,
  parseDiffId,
  type StoredReference,
} from '../../image/index.ts'
import type { ImageLocation } from '../../policy/index.ts'
import { MAX_LAYERS } from '../../tree/index.ts'
import type { ConvertedImage, ConvertedLayer } from '../converted.ts'
import { createWhiteouts, type WhitelistNode } from './whitelist.ts'

/** Annotation of an image's manifest with the images that it was made of: a JSON list of AppcPart, the image itself last. */
export const APPC_ANNOTATION = 'io.loam.appc.images'

/** One image in the form in which an annotation keeps it. */
export interface AppcPart {
  readonly id: AppcImageId
  readonly diffId: DiffId
  /** Its manifest, as it is in the ACI. */
  readonly manifest: string
  /** The id is the name of an agent's folder and was not computed: the ACI no longer exists. */
  readonly isIdClaimed?: true
}

/** An image of the graph, with its layer. */
export interface AppcImage extends AppcPart {
  readonly parsed: AppcManifest
  readonly layer: ConvertedLayer
  /** Locations that it came from, besides that of its name. */
  readonly from?: readonly ImageLocation[]
}

/** The locations of the images of a graph. */
export interface AppcGraphOptions {
  readonly platform: Platform
  /** Gets the image that a dependency names. */
  readonly load: (name: AppcName, signal: AbortSignal | undefined) => Promise<AppcImage>
  readonly signal: AbortSignal | undefined
}

/**
 * Converts an image and its dependencies into one image with a layer for each.
 * @throws SOURCE_INVALID, DIGEST_MISMATCH, LAYER_LIMIT, and the errors of `load`
 */
export async function convertAppc(root: AppcImage, options: AppcGraphOptions): Promise<ConvertedImage> {
  const edges = await loadGraph(root, options)
  const order = sortGraph(root, edges)
  const layers = order.map(({ layer }) => layer)
  const whiteouts = await whiteoutLayer(root, order, edges)
  if (whiteouts !== undefined) layers.push(whiteouts)
  const parts = order.map(
    ({ id, diffId, manifest, isIdClaimed }): AppcPart => ({
      id,
      diffId,
      manifest,
      ...(isIdClaimed === undefined ? {} : { isIdClaimed }),
    }),
  )
  const below = order.filter((image) => image !== root).map(({ parsed }) => parsed.name)
  return {
    config: createConfig(root.parsed, layers),
    layers,
    annotations: { [APPC_ANNOTATION]: JSON.stringify(parts) },
    aliases: aliasesOf(root, options.platform),
    from: [
      ...below.map((name): ImageLocation => ({ kind: 'appc', name })),
      ...order.flatMap(({ from }) => from ?? []),
    ],
  }
}

/** Returns the names of the image: by its labels, and by its id if that was computed. */
function aliasesOf({ parsed, id, isIdClaimed }: AppcImage, platform: Platform): StoredReference[] {
  const { name, labels } = parsed
  try {
    const own = createAppcName({ name, labels }, platform)
    return [formatAppcName(own), ...(isIdClaimed === true ? [] : [formatAppcName({ ...own, id })])]
  } catch {
    // A label that no request can contain makes no name.
    return []
  }
}

type Edges = ReadonlyMap<AppcImageId, readonly AppcImage[]>

/** Loads all images, each once; those of one level are loaded at the same time. */
async function loadGraph(root: AppcImage, { platform, load, signal }: AppcGraphOptions): Promise<Edges> {
  const edges = new Map<AppcImageId, AppcImage[]>()
  const loads = new Map<string, Promise<AppcImage>>()
  let level = [root]
  while (level.length > 0) {
    const next: AppcImage[] = []
    for (const image of level) {
      if (edges.has(image.id)) continue
      edges.set(image.id, [])
      if (edges.size > MAX_LAYERS) {
        throw new LoamError(
          'LAYER_LIMIT',
          `read ${root.parsed.name}: it depends on more than ${MAX_LAYERS} images`,
        )
      }
      const names = image.parsed.dependencies.map((wanted) => createAppcName(wanted, platform))
      const found = await Promise.all(
        names.map(async (name) => {
          const key = formatAppcName(name)
          const loading = loads.get(key) ?? load(name, signal)
          loads.set(key, loading)
          const dependency = await loading
          checkMatches(name, dependency)
          return dependency
        }),
      )
      edges.set(image.id, found)
      next.push(...found)
    }
    level = next
  }
  return edges
}

/** Refuses another image than the one that was asked for. @throws DIGEST_MISMATCH, SOURCE_INVALID */
export function checkMatches(wanted: AppcName, { id, parsed }: AppcImage): void {
  if (wanted.id !== undefined && wanted.id !== id) {
    throw new LoamError('DIGEST_MISMATCH', `verify ${wanted.name}: expected ${wanted.id}, got ${id}`, {
      hint: 'Discovery found a different image than requested; nothing was kept.',
    })
  }
  if (suitsAppcName(wanted, parsed)) return
  const labels = Object.entries(parsed.labels).map(([label, value]) => `${label}=${value}`)
  throw new LoamError(
    'SOURCE_INVALID',
    `verify ${formatAppcName(wanted)}: found ${[parsed.name, ...labels].join(',')}`,
  )
}

/** Sorts depth first: dependencies come before their image, in the order of its manifest, and each image once. */
function sortGraph(root: AppcImage, edges: Edges): AppcImage[] {
  const order: AppcImage[] = []
  const states = new Map<AppcImageId, 'open' | 'done'>()
  const visit = (image: AppcImage) => {
    if (states.get(image.id) === 'done') return
    if (states.get(image.id) === 'open') {
      throw new LoamError(
        'SOURCE_INVALID',
        `read ${root.parsed.name}: ${image.parsed.name} depends on itself`,
      )
    }
    states.set(image.id, 'open')
    for (const dependency of edges.get(image.id) ?? []) visit(dependency)
    states.set(image.id, 'done')
    order.push(image)
  }
  visit(root)
  return order
}

async function whiteoutLayer(
  root: AppcImage,
  order: readonly AppcImage[],
  edges: Edges,
): Promise<ConvertedLayer | undefined> {
  if (order.length === 1 || order.every(({ parsed }) => parsed.pathWhitelist.length === 0)) return undefined
  const nodes = new Map<AppcImageId, WhitelistNode>()
  for (const image of order) {
    nodes.set(image.id, {
      pathWhitelist: image.parsed.pathWhitelist,
      open: () => image.layer.open({}),
      dependencies: (edges.get(image.id) ?? []).flatMap(({ id }) => nodes.get(id) ?? []),
    })
  }
  const top = nodes.get(root.id)
  const tar = top === undefined ? undefined : await createWhiteouts(top)
  return tar === undefined ? undefined : bufferLayer(tar)
}

function bufferLayer(tar: Buffer): ConvertedLayer {
  return {
    descriptor: describeBytes(MEDIA_TYPES.ociLayer, tar),
    open: async function* open({ offset = 0 }) {
      // A copy, because the reader may take over the memory.
      if (offset < tar.length) yield Buffer.from(tar.subarray(offset))
    },
  }
}

function createConfig({ labels, created, run }: AppcManifest, layers: readonly ConvertedLayer[]): Buffer {
  const { os, architecture, variant } = appcPlatform(labels)
  const keys = (names: readonly string[]) => Object.fromEntries(names.map((name) => [name, {}]))
  const config =
    run === undefined
      ? {}
      : {
          User: run.user,
          Env: run.env,
          Entrypoint: run.entrypoint,
          Cmd: run.cmd,
          WorkingDir: run.workingDir,
          Volumes: keys(run.volumes),
          ExposedPorts: keys(run.exposedPorts),
        }
  return formatConfig(
    { created, architecture, os, variant, config },
    layers.map(({ descriptor }) => parseDiffId(descriptor.digest)),
  )
}

/** Reads the parts that an image of the store was made of, the image itself last; empty if it is not an Appc image. */
export function readAppcParts(annotations: Readonly<Record<string, string>> | undefined): AppcPart[] {
  const text = annotations?.[APPC_ANNOTATION]
  if (text === undefined) return []
  try {
    const parts: unknown = JSON.parse(text)
    return Array.isArray(parts) ? parts.filter(isAppcPart) : []
  } catch {
    // A foreign annotation of that name.
    return []
  }
}

function isAppcPart(value: unknown): value is AppcPart {
  if (typeof value !== 'object' || value === null) return false
  const { id, diffId, manifest } = value as Readonly<Record<string, unknown>>
  return isAppcImageId(id) && isDigest(diffId) && typeof manifest === 'string'
}

/** Returns the id of an image of the store that was made of an ACI, where Loam has computed it. */
export function appcIdOf(annotations: Readonly<Record<string, string>> | undefined): AppcImageId | undefined {
  const own = readAppcParts(annotations).at(-1)
  return own?.isIdClaimed === undefined ? own?.id : undefined
}

/** Builds an image of the graph from a part and a local layer, both of which came from the given locations. */
export function knownAppcImage(
  part: AppcPart,
  layer: ConvertedLayer,
  from: readonly ImageLocation[],
): AppcImage {
  // An import accepted it, perhaps by older rules.
  const { manifest } = readAppcManifest(Buffer.from(part.manifest), `manifest of ${part.id}`)
  return { ...part, layer, parsed: manifest, from }
}
