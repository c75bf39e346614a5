/*
 * The archive of `docker save` and `podman save`: a tar with manifest.json,
 *   [{ "Config": "<hex>.json", "RepoTags": ["busybox:latest"], "Layers": ["<id>/layer.tar", …] }]
 * It has no image manifest; Loam creates one.
 */
import { createHash } from 'node:crypto'
import * as v from 'valibot'
import { peekPacking } from '../compression/index.ts'
import { LoamError } from '../errors/index.ts'
import {
  check,
  type Digest,
  finishDigest,
  goStruct,
  goTexts,
  isDigest,
  parseImageConfig,
  parseStrictJson,
  MEDIA_TYPES,
} from '../image/index.ts'
import {
  type ArchiveChoice,
  type ArchivedImage,
  chooseArchived,
  joinArchived,
  namesOf,
  selectorOf,
} from './archived-images.ts'
import type { ImageSource } from './image-source.ts'
import { fileLocations, formatImageName } from './image-name.ts'
import type { ArchiveFiles } from './archive-files.ts'
import { convertedSource, type ConvertedLayer } from './converted.ts'

const ManifestSchema = v.array(
  goStruct({
    Config: v.pipe(v.string(), v.nonEmpty('names no file')),
    RepoTags: goTexts,
    Layers: goTexts,
  }),
)
type ManifestEntry = v.InferOutput<typeof ManifestSchema>[number]

/** Creates a source of an image in an archive. @throws SOURCE_INVALID, IMAGE_NOT_FOUND */
export function dockerArchiveSource(path: string, choice: ArchiveChoice, members: ArchiveFiles): ImageSource {
  const chosen = chooseArchived(path, listImages(path, members), choice)
  const { image } = chosen
  return convertedSource({
    name: formatImageName({ transport: 'docker-archive', path, selector: selectorOf(choice, chosen) }),
    asked: { locations: fileLocations('docker-archive', path), pin: undefined },
    isRemote: false,
    convert: async (signal) => {
      const config = members.read(image.Config, 'config')
      if (config === undefined) throw missing(path, image.Config)
      return {
        config,
        layers: await describeLayers({ path, image, config, members, signal }),
        aliases: namesOf(chosen),
      }
    },
  })
}

/** Lists the images of an archive. @throws SOURCE_INVALID */
export function listImages(path: string, members: ArchiveFiles): ArchivedImage<ManifestEntry>[] {
  const what = `${path}/manifest.json`
  const bytes = members.read('manifest.json', 'manifest')
  if (bytes === undefined) {
    throw new LoamError('SOURCE_INVALID', `read docker archive ${path}: it has no manifest.json`, {
      hint:
        members.sizeOf('oci-layout') === undefined
          ? 'It is not an image: docker save, podman save and skopeo write those. To make an image of the files of a root filesystem, use docker import or umoci.'
          : `It is an OCI layout: try oci-archive:${path}`,
    })
  }
  const entries = check(ManifestSchema, parseStrictJson(bytes, what), what).map((image) => ({
    image,
    references: image.RepoTags,
  }))
  return joinArchived(entries, ({ Config, Layers }) => JSON.stringify([Config, Layers]))
}

interface ArchiveRead {
  readonly path: string
  readonly image: ManifestEntry
  readonly config: Buffer
  readonly members: ArchiveFiles
  readonly signal: AbortSignal | undefined
}

async function describeLayers({
  path,
  image,
  config,
  members,
  signal,
}: ArchiveRead): Promise<ConvertedLayer[]> {
  const { diffIds } = parseImageConfig(config, `${path}/${image.Config}`)
  const layers = image.Layers
  if (layers.length !== diffIds.length) {
    throw new LoamError(
      'SOURCE_INVALID',
      `read docker archive ${path}: ${layers.length} layers and ${diffIds.length} diffIDs`,
    )
  }
  const described: ConvertedLayer[] = []
  for (const [index, name] of layers.entries()) {
    const sizeBytes = members.sizeOf(name)
    const diffId = diffIds[index]
    if (sizeBytes === undefined || diffId === undefined) throw missing(path, name)
    const digest = await layerDigest(name, diffId, members, signal)
    described.push({
      descriptor: { mediaType: MEDIA_TYPES.dockerLayer, digest, sizeBytes },
      open: (options) => members.stream(name, options),
    })
  }
  return described
}

/** Returns the digest of a layer file. That of a plain tar is its diffID, which is checked later; others are named by it or are hashed. */
async function layerDigest(
  name: string,
  diffId: Digest,
  members: ArchiveFiles,
  signal: AbortSignal | undefined,
): Promise<Digest> {
  const [, algorithm = '', hex = ''] = /^blobs\/(sha256|sha512)\/([0-9a-f]+)$/.exec(name) ?? []
  const named = `${algorithm}:${hex}`
  if (isDigest(named)) return named
  const { packing, rest } = await peekPacking(members.stream(name, { signal }))
  const hash = createHash('sha256')
  for await (const chunk of rest) {
    if (packing === 'none') break
    hash.update(chunk)
  }
  return packing === 'none' ? diffId : finishDigest('sha256', hash)
}

function missing(path: string, name: string): LoamError {
  return new LoamError('SOURCE_INVALID', `read docker archive ${path}: it has no ${name}`)
}
