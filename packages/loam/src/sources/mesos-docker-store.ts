/*
 * The Docker store that a Mesos agent left:
 *   <docker_store_dir>/storedImages                      4 bytes of length and a message Images (docker/message.proto)
 *   <docker_store_dir>/layers/<id>/{rootfs,rootfs.overlay}  the files of a layer, unpacked; of the latter with overlayfs's marks
 *   <docker_store_dir>/layers/<id>/json                  v1 manifest, where the image came in the form of v1 or schema 1
 *   <docker_store_dir>/layers/sha256:<hex>               a file: the config of a schema 2 image
 * It is read and never changed. The original tar of a layer no longer exists, so that the layer gets another digest.
 */
import { existsSync, lstatSync } from 'node:fs'
import { endianness } from 'node:os'
import { join, resolve } from 'node:path'
import { LoamError, toLoamError } from '../errors/index.ts'
import {
  configOfV1,
  checkDocumentSize,
  limitOf,
  type DocumentLimits,
  type Digest,
  digestOf,
  formatReference,
  isDigest,
  isV1Id,
  parseReference,
  parseStrictJson,
  parseV1Json,
  type DiffId,
  formatConfig,
} from '../image/index.ts'
import { readInput } from '../linux/index.ts'
import { registryLocation } from '../policy/index.ts'
import { MAX_LAYERS } from '../tree/index.ts'
import { type FolderPacker, folderLayer } from './folder-layer.ts'
import { fileLocations } from './image-name.ts'
import type { ImageSource } from './image-source.ts'
import { convertedSource, type ConvertedImage, type ConvertedLayer } from './converted.ts'

/** Docker's limit of a manifest, which contains it. */
const MAX_V1_JSON_BYTES = 4 << 20
const MAX_STORED_IMAGES_BYTES = 256 << 20

/** One image of the store. */
export interface MesosDockerImage {
  /** The reference in Mesos's key, unchanged. */
  readonly reference: string
  /** Base first; layer ids of v1, or digests. */
  readonly layerIds: readonly string[]
  readonly configDigest: Digest | undefined
}

/** Lists the images of a store; empty when none was ever pulled. @throws SOURCE_INVALID */
export function listMesosDockerImages(storeDir: string): MesosDockerImage[] {
  const path = join(storeDir, 'storedImages')
  if (!existsSync(path)) return []
  const bytes = readInput(path, MAX_STORED_IMAGES_BYTES)
  // A power cut left it empty; Mesos reads that as no images.
  if (bytes.length === 0) return []
  if (bytes.length < 4) throw invalid(path, 'it is cut off')
  const length = endianness() === 'LE' ? bytes.readUInt32LE(0) : bytes.readUInt32BE(0)
  if (bytes.length < 4 + length) throw invalid(path, 'it is cut off')
  return readFields(bytes.subarray(4, 4 + length), path)
    .filter(({ number }) => number === 1)
    .map(({ value }) => toImage(value, path))
}

function toImage(message: Buffer, path: string): MesosDockerImage {
  const fields = readFields(message, path)
  const reference = fields.find(({ number }) => number === 1)
  if (reference === undefined) throw invalid(path, 'an image in it has no reference')
  const [configDigest] = texts(fields, 3)
  if (configDigest !== undefined && !isDigest(configDigest)) throw invalid(path, 'a config has no digest')
  return {
    reference: formatMesosReference(readFields(reference.value, path), path),
    layerIds: texts(fields, 2),
    configDigest,
  }
}

/** docker/spec.proto, ImageReference: registry, repository, tag, digest. */
function formatMesosReference(fields: readonly Field[], path: string): string {
  const [registry] = texts(fields, 1)
  const [repository] = texts(fields, 2)
  const [tag] = texts(fields, 3)
  const [digest] = texts(fields, 4)
  if (repository === undefined) throw invalid(path, 'a reference in it has no repository')
  const end = digest === undefined ? (tag === undefined ? '' : `:${tag}`) : `@${digest}`
  return `${registry === undefined ? '' : `${registry}/`}${repository}${end}`
}

interface Field {
  readonly number: number
  readonly value: Buffer
}

function texts(fields: readonly Field[], wanted: number): string[] {
  return fields.filter(({ number }) => number === wanted).map(({ value }) => value.toString('utf8'))
}

/** Reads the fields of a protobuf message that have a length, and skips others. */
function readFields(message: Buffer, path: string): Field[] {
  const fields: Field[] = []
  let at = 0
  const varint = () => {
    let value = 0n
    for (let shift = 0n; shift < 64n; shift += 7n) {
      const byte = message[at]
      if (byte === undefined) throw invalid(path, 'a message in it is cut off')
      at += 1
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return Number(value)
    }
    throw invalid(path, 'a number in it has no end')
  }
  while (at < message.length) {
    const key = varint()
    const type = key & 7
    if (type === 0) varint()
    else if (type === 1) at += 8
    else if (type === 5) at += 4
    else if (type === 2) {
      const length = varint()
      if (at + length > message.length) throw invalid(path, 'a message in it is cut off')
      fields.push({ number: key >>> 3, value: message.subarray(at, at + length) })
      at += length
    } else throw invalid(path, `a field in it has the unknown type ${type}`)
  }
  return fields
}

/** Creates a source of one image of a store. @throws SOURCE_INVALID, DIGEST_MISMATCH, REFERENCE_INVALID */
export function mesosDockerSource(
  storeDir: string,
  image: MesosDockerImage,
  options: {
    readonly packer: FolderPacker
    readonly limits: DocumentLimits
    readonly mayReplace?: boolean | undefined
  },
): ImageSource {
  const reference = parseReference(image.reference)
  if (reference.digest !== undefined) {
    throw new LoamError(
      'DIGEST_MISMATCH',
      `import ${image.reference}: the agent's store did not keep its digest`,
      {
        hint: `Pull it: loam pull ${image.reference}`,
      },
    )
  }
  return convertedSource({
    name: formatReference(reference),
    asked: { locations: [registryLocation(reference)], pin: undefined },
    from: fileLocations('mesos', resolve(storeDir)),
    isRemote: false,
    givenBy: 'user',
    mayReplace: options.mayReplace,
    convert: async (signal) => convert(join(storeDir, 'layers'), image, { ...options, signal }),
  })
}

async function convert(
  layersDir: string,
  image: MesosDockerImage,
  {
    packer,
    limits,
    signal,
  }: {
    readonly packer: FolderPacker
    readonly limits: DocumentLimits
    readonly signal: AbortSignal | undefined
  },
): Promise<ConvertedImage> {
  const { layerIds, configDigest } = image
  if (layerIds.length > MAX_LAYERS) throw invalid(image.reference, `it has more than ${MAX_LAYERS} layers`)
  const layers: (ConvertedLayer & { readonly diffId: DiffId })[] = []
  for (const id of layerIds) {
    const { folder, as } = findLayer(layersDir, id)
    layers.push(await folderLayer(folder, packer, { as, signal }))
  }
  const diffIds = layers.map(({ diffId }) => diffId)
  const config =
    configDigest === undefined
      ? configOfTop(layersDir, layerIds, diffIds)
      : configWithLayers(readConfig(layersDir, configDigest, limits), configDigest, diffIds)
  return { config, layers }
}

function findLayer(layersDir: string, id: string): { folder: string; as: 'layer' | 'overlay' } {
  // An id is a part of a path here.
  if (!isV1Id(id) && !isDigest(id))
    throw invalid(layersDir, `${JSON.stringify(id.slice(0, 200))} is not a layer id`)
  const plain = join(layersDir, id, 'rootfs')
  const overlay = join(layersDir, id, 'rootfs.overlay')
  if (isFolder(plain)) return { folder: plain, as: 'layer' }
  if (isFolder(overlay)) return { folder: overlay, as: 'overlay' }
  throw new LoamError(
    'LAYER_NOT_FOUND',
    `read ${join(layersDir, id)}: it has neither rootfs nor rootfs.overlay`,
    {
      hint: 'The layer was removed or is incomplete: `loam pull` the image instead.',
    },
  )
}

function isFolder(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
}

function readConfig(layersDir: string, digest: Digest, limits: DocumentLimits): Buffer {
  const path = join(layersDir, digest)
  const stats = lstatSync(path, { throwIfNoEntry: false })
  if (stats === undefined || !stats.isFile()) throw invalid(path, 'the config is missing')
  const limit = limitOf('config', limits)
  checkDocumentSize(`read ${path}`, stats.size, limit)
  const bytes = readInput(path, limit.maxBytes)
  if (digestOf(bytes) !== digest)
    throw new LoamError('DIGEST_MISMATCH', `verify ${path}: it has another digest`)
  return bytes
}

function configWithLayers(config: Buffer, what: string, diffIds: readonly DiffId[]): Buffer {
  const value = parseStrictJson(config, `config ${what}`)
  if (typeof value !== 'object' || value === null) throw invalid(what, 'the config is no object')
  return formatConfig(value, diffIds)
}

function configOfTop(layersDir: string, layerIds: readonly string[], diffIds: readonly DiffId[]): Buffer {
  const top = layerIds.at(-1)
  if (top === undefined) throw invalid(layersDir, 'an image has no layer')
  const path = join(layersDir, top, 'json')
  try {
    return configOfV1(parseV1Json(readInput(path, MAX_V1_JSON_BYTES), path), diffIds)
  } catch (error) {
    throw toLoamError(error, `read ${path}`)
  }
}

function invalid(what: string, why: string): LoamError {
  return new LoamError('SOURCE_INVALID', `read ${what}: ${why}`)
}
