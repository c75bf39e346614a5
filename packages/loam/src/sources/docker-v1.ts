/*
 * The archive of `docker save` before 1.10, and the local store of Mesos: an archive or a folder with
 *   repositories          { "busybox": { "latest": "<id>" } }
 *   <id>/VERSION          1.0
 *   <id>/json             { "id", "parent", "config", … }
 *   <id>/layer.tar        or, unpacked by that store, <id>/rootfs/
 * Source: moby image/spec/v1.md.
 */
import * as v from 'valibot'
import { LoamError } from '../errors/index.ts'
import {
  check,
  configOfV1,
  type DiffId,
  isV1Id,
  parseStrictJson,
  parseV1Json,
  type V1Json,
  MEDIA_TYPES,
} from '../image/index.ts'
import { MAX_LAYERS } from '../tree/index.ts'
import { hashBlob } from './blob-file.ts'
import {
  type ArchiveChoice,
  type ArchivedImage,
  chooseArchived,
  joinArchived,
  namesOf,
  selectorOf,
} from './archived-images.ts'
import { type FolderPacker, folderLayer } from './folder-layer.ts'
import type { ImageSource } from './image-source.ts'
import { fileLocations, formatImageName } from './image-name.ts'
import type { ArchiveFiles } from './archive-files.ts'
import { convertedSource, type ConvertedImage, type ConvertedLayer } from './converted.ts'

const RepositoriesSchema = v.record(v.string(), v.record(v.string(), v.string()))

/** Returns whether an archive has the v1 format only. */
export function isDockerV1(members: ArchiveFiles): boolean {
  return members.sizeOf('repositories') !== undefined && members.sizeOf('manifest.json') === undefined
}

/** Creates a source of an image in the v1 format. `folders` packs layers that Mesos's local store has unpacked. @throws SOURCE_INVALID, IMAGE_NOT_FOUND */
export function dockerV1Source(
  path: string,
  choice: ArchiveChoice,
  members: ArchiveFiles,
  folders: FolderPacker,
): ImageSource {
  const chosen = chooseArchived(path, listImages(path, members), choice)
  return convertedSource({
    name: formatImageName({ transport: 'docker-archive', path, selector: selectorOf(choice, chosen) }),
    asked: { locations: fileLocations('docker-archive', path), pin: undefined },
    isRemote: false,
    convert: async (signal) => ({
      ...(await convert({ path, id: chosen.image, members, folders, signal })),
      aliases: namesOf(chosen),
    }),
  })
}

/** Lists the images by the ids of their topmost layers. */
function listImages(path: string, members: ArchiveFiles): ArchivedImage<string>[] {
  const what = `${path}/repositories`
  const bytes = members.read('repositories', 'manifest') ?? Buffer.alloc(0)
  const repositories = check(RepositoriesSchema, parseStrictJson(bytes, what), what)
  const entries = Object.entries(repositories).flatMap(([repository, tags]) =>
    Object.entries(tags).map(([tag, id]) => ({ references: [`${repository}:${tag}`], image: id })),
  )
  return joinArchived(entries, (id) => id)
}

interface ArchiveRead {
  readonly path: string
  readonly id: string
  readonly members: ArchiveFiles
  readonly folders: FolderPacker
  readonly signal: AbortSignal | undefined
}

/** Reads each layer once, because the v1 format has no digests of layers. */
async function convert(read: ArchiveRead): Promise<ConvertedImage> {
  const layers: ConvertedLayer[] = []
  const diffIds: DiffId[] = []
  const chain = readChain(read)
  for (const { layerId } of chain) {
    const { diffId, ...layer } = await readLayer(layerId, read)
    diffIds.push(diffId)
    layers.push(layer)
  }
  const top = chain.at(-1)
  if (top === undefined) throw invalid(read.path, 'it has no layer')
  return { config: configOfV1(top.json, diffIds), layers }
}

/** Reads a layer's tar, or the folder into which the local store of Mesos has unpacked it. */
async function readLayer(
  layerId: string,
  { path, members, folders, signal }: ArchiveRead,
): Promise<ConvertedLayer & { readonly diffId: DiffId }> {
  const name = `${layerId}/layer.tar`
  const sizeBytes = members.sizeOf(name)
  if (sizeBytes !== undefined) {
    const { digest, diffId } = await hashBlob(members.stream(name, { signal }), `read ${path}`, { signal })
    const descriptor = { mediaType: MEDIA_TYPES.dockerLayer, digest, sizeBytes }
    return { diffId, descriptor, open: (options) => members.stream(name, options) }
  }
  const rootfs = members.findFolder(`${layerId}/rootfs`)
  if (rootfs !== undefined) return folderLayer(rootfs, folders, { as: 'layer', signal })
  throw invalid(path, `it has no ${name}`)
}

interface ChainLink {
  readonly layerId: string
  readonly json: V1Json
}

/** Returns the ancestors of a layer and the layer itself, base first. */
function readChain({ path, id: top, members }: ArchiveRead): ChainLink[] {
  const chain: ChainLink[] = []
  const seen = new Set<string>()
  for (let id: string | undefined = top; id !== undefined; id = chain.at(-1)?.json.parent) {
    if (!isV1Id(id)) throw invalid(path, `${JSON.stringify(id.slice(0, 200))} is not a layer id`)
    if (seen.has(id)) throw invalid(path, `layer ${id} is its own ancestor`)
    if (seen.size === MAX_LAYERS) throw invalid(path, `it has more than ${MAX_LAYERS} layers`)
    seen.add(id)
    const bytes = members.read(`${id}/json`, 'config')
    if (bytes === undefined) throw invalid(path, `it has no ${id}/json`)
    const json = parseV1Json(bytes, `${path}/${id}/json`)
    // Mesos's own tests write none.
    if (json.id !== undefined && json.id !== id) throw invalid(path, `${id}/json is that of layer ${json.id}`)
    chain.push({ layerId: id, json })
  }
  return chain.toReversed()
}

function invalid(path: string, why: string): LoamError {
  return new LoamError('SOURCE_INVALID', `read docker archive ${path}: ${why}`)
}
