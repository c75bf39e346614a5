/*
 * The files of an additional image store, as containers/storage reads them (podman, buildah, CRI-O: `additionalimagestores`).
 *
 *   overlay-images/images.json           the images: id (the config's digest), names, top layer, names and digests of the documents
 *   overlay-images/<id>/<document>       manifest, manifest-<digest> and the config; a name that is not lower case is in base64
 *   overlay-layers/layers.json           the layers: id, parent, digests and sizes of tar and blob
 *   overlay/<layer>/diff                 here a link to where Loam has mounted the stack of all layers up to this one
 *   overlay/<layer>/link, overlay/l/…    a short name of the layer, and a link of that name to diff
 *   overlay/<layer>/{empty,merged,work}  directories that the driver expects
 *   *.lock                               the last writer: readers load the JSON again when it changes
 *
 * A layer has no file `lower`, which would list the layers below it: the mount shows those, too. So an overlay of a container has one lower
 * directory, and the tree is the one that Loam shows everywhere. The ids are those that containers/storage itself computes, so that a build on
 * such an image, or a pull of another one with the same base, uses these layers.
 * Source: containers/storage images.go, layers.go, drivers/overlay; containers/image storage/storage_dest.go.
 */
import { randomBytes } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { type DiffId, type Digest, digestOf, splitDigest } from '../image/index.ts'
import { removeTree, unlinkIfThere } from '../linux/index.ts'

/** One layer of an image in an additional store. */
export interface AdditionalLayer {
  readonly diffId: DiffId
  readonly tarBytes: number
  readonly blobDigest: Digest
  readonly blobBytes: number
  /** Where all layers up to this one are mounted. */
  readonly mountPath: string
}

/** An image in an additional store. */
export interface AdditionalImageFiles {
  readonly names: readonly string[]
  readonly digest: Digest
  readonly manifest: Buffer
  readonly configDigest: Digest
  readonly config: Buffer
  readonly createdAtMs: number
  /** Base first. */
  readonly layers: readonly AdditionalLayer[]
}

const DRIVER = 'overlay'
/** The folders of a store. */
export const STORE_FOLDERS = [DRIVER, `${DRIVER}-images`, `${DRIVER}-layers`] as const
const [OVERLAY, IMAGES, LAYERS] = STORE_FOLDERS
const LINKS = 'l'
/** Length of a layer's short name. */
const LINK_LENGTH = 26
/** Length of the name of the last writer. */
const WRITER_BYTES = 64
/** The value for uncompressed and for gzip, which is all that readers need to know. */
const COMPRESSION = { none: 0, gzip: 2 } as const

/**
 * Writes an additional image store with exactly these images, and removes what belongs to others. Layers are in place before the images that name
 * them, and are removed after those. The time is linear in images and layers. @throws system errors
 */
export async function writeAdditionalStore(
  directory: string,
  images: readonly AdditionalImageFiles[],
): Promise<void> {
  for (const folder of STORE_FOLDERS) mkdirSync(join(directory, folder), { recursive: true, mode: 0o700 })
  mkdirSync(join(directory, OVERLAY, LINKS), { recursive: true, mode: 0o700 })
  const layers = new Map(images.flatMap((image) => layersOf(image)).map((layer) => [layer.id, layer]))
  for (const { id, mountPath } of layers.values()) placeLayer(directory, id, mountPath)
  const oldLayers = readdirSync(join(directory, OVERLAY)).filter(
    (name) => name !== LINKS && !layers.has(name),
  )
  const rows = [...layers.values()].map(({ row }) => row)
  // Old layers stay in the list until no image names them.
  if (oldLayers.length === 0) writeList(directory, LAYERS, 'layers', rows)
  for (const image of images) placeDocuments(directory, image)
  writeList(directory, IMAGES, 'images', images.map(imageRow))
  await removeDocuments(directory, images)
  if (oldLayers.length === 0) return
  writeList(directory, LAYERS, 'layers', rows)
  for (const id of oldLayers) {
    unlinkIfThere(join(directory, OVERLAY, LINKS, linkOf(id)))
    await removeTree(join(directory, OVERLAY, id))
  }
}

function layersOf({ layers, createdAtMs }: AdditionalImageFiles) {
  let parent = ''
  return layers.map(({ diffId, tarBytes, blobDigest, blobBytes, mountPath }) => {
    const { hex } = splitDigest(diffId)
    const id = parent === '' ? hex : splitDigest(digestOf(Buffer.from(`${parent}+${hex}`))).hex
    const row = {
      id,
      ...(parent === '' ? {} : { parent }),
      created: new Date(createdAtMs).toISOString(),
      'compressed-diff-digest': blobDigest,
      'compressed-size': blobBytes,
      'diff-digest': diffId,
      'diff-size': tarBytes,
      compression: blobDigest === diffId ? COMPRESSION.none : COMPRESSION.gzip,
    }
    parent = id
    return { id, mountPath, row }
  })
}

/** A short name that follows from the id. */
function linkOf(id: string): string {
  return splitDigest(digestOf(Buffer.from(id)))
    .hex.toUpperCase()
    .slice(0, LINK_LENGTH)
}

function placeLayer(directory: string, id: string, mountPath: string): void {
  const folder = join(directory, OVERLAY, id)
  for (const name of ['empty', 'merged', 'work'])
    mkdirSync(join(folder, name), { recursive: true, mode: 0o700 })
  const link = linkOf(id)
  writeFileSync(join(folder, 'link'), link, { mode: 0o644 })
  placeLink(join(folder, 'diff'), mountPath)
  placeLink(join(directory, OVERLAY, LINKS, link), join('..', id, 'diff'))
}

function placeLink(path: string, target: string): void {
  try {
    if (readlinkSync(path) === target) return
  } catch {
    // It does not exist.
  }
  const unfinished = `${path}.new`
  unlinkIfThere(unfinished)
  symlinkSync(target, unfinished)
  renameSync(unfinished, path)
}

function documentsOf({ digest, manifest, configDigest, config }: AdditionalImageFiles): [string, Buffer][] {
  return [
    [configDigest, config],
    [`manifest-${digest}`, manifest],
    ['manifest', manifest],
  ]
}

function placeDocuments(directory: string, image: AdditionalImageFiles): void {
  const folder = join(directory, IMAGES, splitDigest(image.configDigest).hex)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  for (const [name, bytes] of documentsOf(image)) {
    const file = /^[a-z0-9]+$/.test(name) ? name : `=${Buffer.from(name).toString('base64')}`
    writeWhole(join(folder, file), bytes)
  }
}

async function removeDocuments(directory: string, images: readonly AdditionalImageFiles[]): Promise<void> {
  const ids = new Set(images.map(({ configDigest }) => splitDigest(configDigest).hex))
  const old = readdirSync(join(directory, IMAGES)).filter(
    (name) => /^[0-9a-f]+$/.test(name) && !ids.has(name),
  )
  for (const id of old) await removeTree(join(directory, IMAGES, id))
}

function imageRow(image: AdditionalImageFiles) {
  const documents = documentsOf(image)
  const top = layersOf(image).at(-1)?.id
  return {
    id: splitDigest(image.configDigest).hex,
    digest: image.digest,
    names: image.names,
    ...(top === undefined ? {} : { layer: top }),
    metadata: '{}',
    'big-data-names': documents.map(([name]) => name),
    'big-data-sizes': Object.fromEntries(documents.map(([name, bytes]) => [name, bytes.length])),
    'big-data-digests': Object.fromEntries(documents.map(([name, bytes]) => [name, digestOf(bytes)])),
    created: new Date(image.createdAtMs).toISOString(),
  }
}

function writeList(directory: string, folder: string, name: string, rows: readonly object[]): void {
  writeWhole(join(directory, folder, `${name}.json`), JSON.stringify(rows))
  writeFileSync(join(directory, folder, `${name}.lock`), randomBytes(WRITER_BYTES), { mode: 0o644 })
}

/** Writes a file that others may be reading. */
function writeWhole(path: string, content: string | Buffer): void {
  writeFileSync(`${path}.new`, content, { mode: 0o600 })
  renameSync(`${path}.new`, path)
}

/** Removes the files of an additional image store, and the directory if nothing else is in it. @throws system errors */
export async function removeAdditionalStore(directory: string): Promise<void> {
  // Images first, so that no image names a layer that is gone.
  for (const folder of [IMAGES, LAYERS, OVERLAY]) await removeTree(join(directory, folder))
  if (existsSync(directory) && readdirSync(directory).length === 0) await removeTree(directory)
}

/** Returns whether a directory is a store without images and layers. */
export function isEmptyStore(directory: string): boolean {
  const lists = [join(directory, IMAGES, 'images.json'), join(directory, LAYERS, 'layers.json')]
  return lists.every((path) => existsSync(path) && readFileSync(path, 'utf8') === '[]')
}
