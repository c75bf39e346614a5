/*
 * What `docker save` and `podman save` write: a tar with manifest.json,
 *   [{ "Config": "<hex>.json", "RepoTags": ["busybox:latest"], "Layers": ["<id>/layer.tar", …] }]
 * It has no image manifest, so one is made, the same as skopeo makes.
 */
import { createHash } from 'node:crypto'
import * as v from 'valibot'
import { LoamError } from '../errors/index.ts'
import {
  check,
  type Digest,
  DOCUMENT_LIMITS,
  finishDigest,
  formatReference,
  isDigest,
  parseImageConfig,
  parseReference,
  parseStrictJson,
} from '../image/index.ts'
import type { ImageSource } from './image-source.ts'
import { formatImageName } from './image-name.ts'
import type { Members } from './members.ts'
import { preparedSource, type PreparedLayer } from './prepared.ts'

const LAYER_TYPE = 'application/vnd.docker.image.rootfs.diff.tar'

const ManifestSchema = v.array(
  v.object({
    Config: v.string(),
    RepoTags: v.nullish(v.array(v.string())),
    Layers: v.nullish(v.array(v.string())),
  }),
)
type ArchivedImage = v.InferOutput<typeof ManifestSchema>[number]

/** Makes a source of an image in an archive. `selector` is one of its references. @throws SOURCE_INVALID, IMAGE_NOT_FOUND */
export function dockerArchiveSource(
  path: string,
  selector: string | undefined,
  members: Members,
): ImageSource {
  const image = chooseImage(path, selector, members)
  return preparedSource({
    name: formatImageName({ transport: 'docker-archive', path, selector }),
    isRemote: false,
    prepare: async (signal) => {
      const config = members.read(image.Config, DOCUMENT_LIMITS.configBytes)
      if (config === undefined) throw missing(path, image.Config)
      return {
        config,
        layers: await describeLayers({ path, image, config, members, signal }),
        aliases: (image.RepoTags ?? []).map((tag) => formatReference(parseReference(tag))),
      }
    },
  })
}

function chooseImage(path: string, selector: string | undefined, members: Members): ArchivedImage {
  const bytes = members.read('manifest.json', DOCUMENT_LIMITS.manifestBytes)
  if (bytes === undefined) {
    throw new LoamError('SOURCE_INVALID', `read docker archive ${path}: it has no manifest.json`, {
      hint:
        members.sizeOf('oci-layout') === undefined
          ? undefined
          : `It is an OCI layout: try oci-archive:${path}`,
    })
  }
  const images = check(
    ManifestSchema,
    parseStrictJson(bytes, `${path}/manifest.json`),
    `${path}/manifest.json`,
  )
  const tagsOf = ({ RepoTags }: ArchivedImage) => RepoTags ?? []
  const wanted = selector === undefined ? undefined : formatReference(parseReference(selector))
  const found =
    wanted === undefined
      ? images.length === 1
        ? images[0]
        : undefined
      : images.find((image) => tagsOf(image).some((tag) => formatReference(parseReference(tag)) === wanted))
  if (found !== undefined) return found
  throw new LoamError(
    'IMAGE_NOT_FOUND',
    `read docker archive ${path}: ${selector === undefined ? `it has ${images.length} images` : `it has no image ${selector}`}`,
    {
      hint: `Name one of: ${images.flatMap(tagsOf).slice(0, 10).join(', ')} (docker-archive:FILE:REF)`,
    },
  )
}

interface ArchiveRead {
  readonly path: string
  readonly image: ArchivedImage
  readonly config: Buffer
  readonly members: Members
  readonly signal: AbortSignal | undefined
}

async function describeLayers({
  path,
  image,
  config,
  members,
  signal,
}: ArchiveRead): Promise<PreparedLayer[]> {
  const { diffIds } = parseImageConfig(config, `${path}/${image.Config}`)
  const layers = image.Layers ?? []
  if (layers.length !== diffIds.length) {
    throw new LoamError(
      'SOURCE_INVALID',
      `read docker archive ${path}: ${layers.length} layers and ${diffIds.length} diffIDs`,
    )
  }
  const described: PreparedLayer[] = []
  for (const [index, name] of layers.entries()) {
    const sizeBytes = members.sizeOf(name)
    const diffId = diffIds[index]
    if (sizeBytes === undefined || diffId === undefined) throw missing(path, name)
    const digest = await layerDigest(name, diffId, members, signal)
    described.push({
      descriptor: { mediaType: LAYER_TYPE, digest, sizeBytes },
      open: (openSignal) => members.stream(name, openSignal),
    })
  }
  return described
}

/** A plain tar's digest is its diffID, to be checked when it is read. A packed one's is in its name or has to be counted. */
async function layerDigest(
  name: string,
  diffId: Digest,
  members: Members,
  signal: AbortSignal | undefined,
): Promise<Digest> {
  const [, algorithm = '', hex = ''] = /^blobs\/(sha256|sha512)\/([0-9a-f]+)$/.exec(name) ?? []
  const named = `${algorithm}:${hex}`
  if (isDigest(named)) return named
  const hash = createHash('sha256')
  let isFirst = true
  for await (const chunk of members.stream(name, signal)) {
    const isPacked = (chunk[0] === 0x1f && chunk[1] === 0x8b) || (chunk[0] === 0x28 && chunk[1] === 0xb5)
    if (isFirst && !isPacked) return diffId
    isFirst = false
    hash.update(chunk)
  }
  return isFirst ? diffId : finishDigest('sha256', hash)
}

function missing(path: string, name: string): LoamError {
  return new LoamError('SOURCE_INVALID', `read docker archive ${path}: it has no ${name}`)
}
