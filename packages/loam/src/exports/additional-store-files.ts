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
  closeSync,
  constants,
  lstatSync,
  openSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { isErrno, LoamError } from '../errors/index.ts'
import { type DiffId, type Digest, digestOf, splitDigest } from '../image/index.ts'
import { TrustedDirectory, unlinkIfThere } from '../linux/index.ts'

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
const FOLDERS = [DRIVER, `${DRIVER}-images`, `${DRIVER}-layers`] as const
const [OVERLAY, IMAGES, LAYERS] = FOLDERS
/** An empty file which says that Loam has made the store. */
const MARK = 'made-by-loam'
const LINKS = 'l'
/** Length of a layer's short name. */
const LINK_LENGTH = 26
const LINK_NAME = /^[0-9A-F]{26}(?:\.new)?$/
/** Of layers and images. */
const ID = /^(?:[0-9a-f]{64}|[0-9a-f]{128})$/
/** What the driver expects in the folder of a layer. */
const LAYER_FOLDERS = ['empty', 'merged', 'work'] as const
const LAYER_FILES = ['link', 'diff', 'diff.new'] as const
/** As `placeDocuments` names them. */
const DOCUMENT_FILE = /^(?:manifest|=[A-Za-z0-9+/]+=*)(?:\.new)?$/
const OVERWRITE = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW
/** Length of the name of the last writer. */
const WRITER_BYTES = 64
/** The value for uncompressed and for gzip, which is all that readers need to know. */
const COMPRESSION = { none: 0, gzip: 2 } as const

/**
 * A directory with an additional image store that Loam has made, or makes now. Only root and this user may write to it, it is reached through
 * descriptors, and no symlink in it is followed. Only names that Loam has written are removed, each by itself: no tree.
 */
export class AdditionalStoreFiles implements Disposable {
  readonly #top: TrustedDirectory

  private constructor(top: TrustedDirectory) {
    this.#top = top
  }

  /**
   * Opens an absolute path without symlinks; with `create` it may be a new or an empty one. @throws STORE_UNSAFE if others may write to it;
   * OUTPUT_EXISTS if it, or a layer in it, is not Loam's
   */
  static open(path: string, create = true): AdditionalStoreFiles {
    const files = new AdditionalStoreFiles(TrustedDirectory.open(path))
    try {
      files.#requireOwn(create)
      return files
    } catch (error) {
      files[Symbol.dispose]()
      throw error
    }
  }

  [Symbol.dispose](): void {
    this.#top[Symbol.dispose]()
  }

  /** Returns whether it has no images and layers. */
  get isEmpty(): boolean {
    return this.#readList(IMAGES, 'images').length === 0 && this.#readList(LAYERS, 'layers').length === 0
  }

  #requireOwn(create: boolean): void {
    const names = this.#top.list()
    if (!isMark(this.#top.at(MARK))) {
      if (names.length > 0) throw foreign(this.#top.path, 'it is not empty, and Loam has not made it')
      if (!create) throw foreign(this.#top.path, 'it is empty')
      closeSync(openSync(this.#top.at(MARK), 'wx', 0o644))
    }
    if (!names.includes(OVERLAY)) return
    using layers = this.#top.enter(OVERLAY)
    const other = layers.list().find((id) => ID.test(id) && !isOwnLayer(layers.at(id)))
    if (other !== undefined) throw foreign(this.#top.path, `another program has put layer ${other} into it`)
  }

  /**
   * Writes exactly these images, and removes the others. Layers are listed before the images that name them, and longer than those. The time is
   * linear in images and layers. @throws system errors
   */
  write(images: readonly AdditionalImageFiles[]): void {
    using folders = this.#openFolders()
    const layers = new Map(images.flatMap((image) => layersOf(image)).map((layer) => [layer.id, layer]))
    for (const { id, mountPath } of layers.values()) placeLayer(folders.overlay, id, mountPath)
    const present = new Set(folders.overlay.list().filter((id) => ID.test(id)))
    const rows = [...layers.values()].map(({ row }) => row)
    // Until no image names them.
    const oldRows = this.#readList(LAYERS, 'layers').filter(({ id }) => !layers.has(id) && present.has(id))
    writeList(folders.layers, 'layers', [...rows, ...oldRows])
    for (const image of images) placeDocuments(folders.images, image)
    writeList(folders.images, 'images', images.map(imageRow))
    const imageIds = new Set(images.map(({ configDigest }) => splitDigest(configDigest).hex))
    for (const id of folders.images.list()) if (!imageIds.has(id)) removeDocuments(folders.images, id)
    if (oldRows.length > 0) writeList(folders.layers, 'layers', rows)
    for (const id of present) if (!layers.has(id)) removeLayer(folders.overlay, id)
    removeLinks(folders.overlay, new Set([...layers.keys()].map(linkOf)))
  }

  /** Removes the files of the store; what else is in its folders stays, and they and the directory with it. @throws system errors */
  remove(): void {
    this.write([])
    for (const [folder, name] of [
      [IMAGES, 'images'],
      [LAYERS, 'layers'],
    ] as const) {
      using opened = this.#top.enter(folder)
      for (const file of [`${name}.json`, `${name}.json.new`, `${name}.lock`]) unlinkIfThere(opened.at(file))
    }
    using overlay = this.#top.enter(OVERLAY)
    removeIfEmpty(overlay.at(LINKS))
    for (const folder of FOLDERS) removeIfEmpty(this.#top.at(folder))
    unlinkIfThere(this.#top.at(MARK))
    removeIfEmpty(this.#top.path)
  }

  #openFolders() {
    using stack = new DisposableStack()
    const overlay = stack.use(this.#top.enter(OVERLAY))
    const images = stack.use(this.#top.enter(IMAGES))
    const layers = stack.use(this.#top.enter(LAYERS))
    const owned = stack.move()
    return { overlay, images, layers, [Symbol.dispose]: () => owned.dispose() }
  }

  /** Returns the rows of a list; none if it is missing or damaged: it is written again. */
  #readList(folder: string, name: string): { readonly id: string }[] {
    if (!this.#top.list().includes(folder)) return []
    using opened = this.#top.enter(folder)
    try {
      const rows: unknown = JSON.parse(readFileSync(opened.at(`${name}.json`), 'utf8'))
      return Array.isArray(rows) ? rows.filter(isRow) : []
    } catch {
      return []
    }
  }
}

function isMark(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isFile() === true
}

function isRow(row: unknown): row is { readonly id: string } {
  return (
    typeof row === 'object' && row !== null && 'id' in row && typeof row.id === 'string' && ID.test(row.id)
  )
}

/** The files of a layer of Loam are elsewhere. */
function isOwnLayer(folder: string): boolean {
  const diff = lstatSync(join(folder, 'diff'), { throwIfNoEntry: false })
  return diff === undefined || diff.isSymbolicLink()
}

function foreign(directory: string, reason: string): LoamError {
  return new LoamError('OUTPUT_EXISTS', `image store ${directory}: ${reason}`, {
    hint: 'Name a directory that does not exist. If a store of Loam was there, move this one away; then `loam unexport` releases its images.',
  })
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

function placeLayer(overlay: TrustedDirectory, id: string, mountPath: string): void {
  using folder = overlay.enter(id)
  for (const name of LAYER_FOLDERS) folder.enter(name)[Symbol.dispose]()
  const link = linkOf(id)
  overwrite(folder.at('link'), link)
  placeLink(folder.at('diff'), mountPath)
  using links = overlay.enter(LINKS)
  placeLink(links.at(link), join('..', id, 'diff'))
}

function removeLayer(overlay: TrustedDirectory, id: string): void {
  {
    using folder = overlay.enter(id)
    for (const name of LAYER_FILES) unlinkIfThere(folder.at(name))
    for (const name of LAYER_FOLDERS) removeIfEmpty(folder.at(name))
  }
  removeIfEmpty(overlay.at(id))
}

function removeLinks(overlay: TrustedDirectory, needed: ReadonlySet<string>): void {
  using links = overlay.enter(LINKS)
  for (const name of links.list())
    if (LINK_NAME.test(name) && !needed.has(name)) unlinkIfThere(links.at(name))
}

/** Leaves a directory in which somebody has put something else. */
function removeIfEmpty(path: string): void {
  try {
    rmdirSync(path)
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTEMPTY', 'EEXIST', 'EBUSY')) throw error
  }
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

function placeDocuments(images: TrustedDirectory, image: AdditionalImageFiles): void {
  using folder = images.enter(splitDigest(image.configDigest).hex)
  for (const [name, bytes] of documentsOf(image)) {
    const file = /^[a-z0-9]+$/.test(name) ? name : `=${Buffer.from(name).toString('base64')}`
    writeWhole(folder.at(file), bytes)
  }
}

function removeDocuments(images: TrustedDirectory, id: string): void {
  if (!ID.test(id)) return
  {
    using folder = images.enter(id)
    for (const name of folder.list()) if (DOCUMENT_FILE.test(name)) unlinkIfThere(folder.at(name))
  }
  removeIfEmpty(images.at(id))
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

function writeList(folder: TrustedDirectory, name: string, rows: readonly object[]): void {
  writeWhole(folder.at(`${name}.json`), JSON.stringify(rows))
  overwrite(folder.at(`${name}.lock`), randomBytes(WRITER_BYTES))
}

/** Writes a small file that others may have open or locked. */
function overwrite(path: string, content: string | Buffer): void {
  const fd = openSync(path, OVERWRITE, 0o644)
  try {
    writeFileSync(fd, content)
  } finally {
    closeSync(fd)
  }
}

/** Writes a file that others may be reading. */
function writeWhole(path: string, content: string | Buffer): void {
  unlinkIfThere(`${path}.new`)
  writeFileSync(`${path}.new`, content, { flag: 'wx', mode: 0o600 })
  renameSync(`${path}.new`, path)
}
