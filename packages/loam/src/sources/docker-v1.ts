/*
 * What `docker save` wrote before 1.10, and what its local store was made of: an archive or a folder with
 *   repositories          { "busybox": { "latest": "<id>" } }
 *   <id>/VERSION          1.0
 *   <id>/json             { "id", "parent", "config", … }
 *   <id>/layer.tar
 * Source: moby image/spec/v1.md.
 */
import * as v from 'valibot'
import { LoamError } from '../errors/index.ts'
import {
  check,
  configOfV1,
  type DiffId,
  DOCUMENT_LIMITS,
  formatReference,
  isV1Id,
  parseReference,
  parseStrictJson,
  parseV1Json,
  type V1Json,
} from '../image/index.ts'
import { MAX_LAYERS } from '../tree/index.ts'
import { hashBlob } from './blob-file.ts'
import type { ImageSource } from './image-source.ts'
import { formatImageName } from './image-name.ts'
import type { Members } from './members.ts'
import { preparedSource, type PreparedImage, type PreparedLayer } from './prepared.ts'

const LAYER_TYPE = 'application/vnd.docker.image.rootfs.diff.tar'

const RepositoriesSchema = v.record(v.string(), v.record(v.string(), v.string()))

/** Tells whether there is nothing but the old form. */
export function isDockerV1(members: Members): boolean {
  return members.sizeOf('repositories') !== undefined && members.sizeOf('manifest.json') === undefined
}

/** Makes a source of an image in the v1 format. `selector` is one of its references. @throws SOURCE_INVALID, IMAGE_NOT_FOUND */
export function dockerV1Source(path: string, selector: string | undefined, members: Members): ImageSource {
  const { id, reference } = chooseImage(path, selector, members)
  return preparedSource({
    name: formatImageName({ transport: 'docker-archive', path, selector }),
    isRemote: false,
    prepare: async (signal) => ({
      ...(await prepare(path, id, members, signal)),
      aliases: [formatReference(parseReference(reference))],
    }),
  })
}

function chooseImage(
  path: string,
  selector: string | undefined,
  members: Members,
): { id: string; reference: string } {
  const what = `${path}/repositories`
  const bytes = members.read('repositories', DOCUMENT_LIMITS.manifestBytes) ?? Buffer.alloc(0)
  const repositories = check(RepositoriesSchema, parseStrictJson(bytes, what), what)
  const images = Object.entries(repositories).flatMap(([repository, tags]) =>
    Object.entries(tags).map(([tag, id]) => ({ reference: `${repository}:${tag}`, id })),
  )
  const wanted = selector === undefined ? undefined : formatReference(parseReference(selector))
  const found =
    wanted === undefined
      ? images.length === 1
        ? images[0]
        : undefined
      : images.find(({ reference }) => formatReference(parseReference(reference)) === wanted)
  if (found === undefined) {
    throw new LoamError(
      'IMAGE_NOT_FOUND',
      `read docker archive ${path}: ${selector === undefined ? `it has ${images.length} images` : `it has no image ${selector}`}`,
      {
        hint: `Name one of: ${images
          .map(({ reference }) => reference)
          .slice(0, 10)
          .join(', ')} (docker-archive:FILE:REF)`,
      },
    )
  }
  const { id } = found
  if (isV1Id(id)) return found
  throw invalid(path, `${JSON.stringify(id.slice(0, 200))} is no layer id`)
}

/** Reads each layer once, because the old form says nothing of what is in them. */
async function prepare(
  path: string,
  id: string,
  members: Members,
  signal: AbortSignal | undefined,
): Promise<PreparedImage> {
  const chain = readChain(path, id, members)
  const layers: PreparedLayer[] = []
  const diffIds: DiffId[] = []
  for (const { id: layerId } of chain) {
    const name = `${layerId}/layer.tar`
    const sizeBytes = members.sizeOf(name)
    if (sizeBytes === undefined) throw invalid(path, `it has no ${name}`)
    const { digest, diffId } = await hashBlob(members.stream(name, signal))
    diffIds.push(diffId)
    layers.push({
      descriptor: { mediaType: LAYER_TYPE, digest, sizeBytes },
      open: (openSignal) => members.stream(name, openSignal),
    })
  }
  const top = chain.at(-1)
  if (top === undefined) throw invalid(path, 'it has no layer')
  return { config: configOfV1(top, diffIds), layers }
}

/** Returns the layers that a layer stands on, and itself, base first. */
function readChain(path: string, top: string, members: Members): V1Json[] {
  const chain: V1Json[] = []
  const seen = new Set<string>()
  for (let id: string | undefined = top; id !== undefined; id = chain.at(-1)?.parent) {
    if (seen.has(id)) throw invalid(path, `layer ${id} stands on itself`)
    if (seen.size === MAX_LAYERS) throw invalid(path, `it has more than ${MAX_LAYERS} layers`)
    seen.add(id)
    const bytes = members.read(`${id}/json`, DOCUMENT_LIMITS.configBytes)
    if (bytes === undefined) throw invalid(path, `it has no ${id}/json`)
    const json = parseV1Json(bytes, `${path}/${id}/json`)
    if (json.id !== id) throw invalid(path, `${id}/json is that of layer ${json.id}`)
    chain.push(json)
  }
  return chain.toReversed()
}

function invalid(path: string, why: string): LoamError {
  return new LoamError('SOURCE_INVALID', `read docker archive ${path}: ${why}`)
}
