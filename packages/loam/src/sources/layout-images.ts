// Which entries of a layout's index are images: some say it themselves, for others their documents are read.
import { LoamError, throwIfAborted } from '../errors/index.ts'
import {
  type Descriptor,
  type Digest,
  imageEntries,
  isArtifact,
  parseManifestDocument,
  splitDigest,
} from '../image/index.ts'
import { TimeSlice } from '../linux/index.ts'
import type { ArchiveFiles } from './archive-files.ts'

/** For all documents of a layout that are read only to know what they are. */
const MAX_READ_BYTES = 64 << 20

/** As deep as an image is resolved. */
const MAX_DEPTH = 3

/** A layout whose documents are read. */
export interface LayoutFiles {
  readonly path: string
  readonly members: ArchiveFiles
  readonly signal: AbortSignal | undefined
}

/**
 * Leaves out entries that are no images, although the index does not say so: signatures, what else refers to an image, and indexes of nothing else. Each
 * document is read once, however many entries name it. @throws SOURCE_INVALID for a layout with too much to read, CANCELED
 */
export async function imagesOf(entries: readonly Descriptor[], files: LayoutFiles): Promise<Descriptor[]> {
  const kinds = new EntryKinds(files)
  const images: Descriptor[] = []
  for (const entry of imageEntries(entries)) if (await kinds.isImage(entry, 0)) images.push(entry)
  return images
}

class EntryKinds {
  readonly #files: LayoutFiles
  readonly #slice = new TimeSlice()
  readonly #known = new Map<Digest, boolean>()
  #readBytes = 0

  constructor(files: LayoutFiles) {
    this.#files = files
  }

  async isImage({ digest }: Descriptor, depth: number): Promise<boolean> {
    await this.#slice.rest()
    throwIfAborted(this.#files.signal, `read OCI layout ${this.#files.path}`)
    const known = this.#known.get(digest)
    if (known !== undefined) return known
    // A file may name itself: nothing here is verified.
    this.#known.set(digest, true)
    const isImage = await this.#inspect(digest, depth)
    this.#known.set(digest, isImage)
    return isImage
  }

  async #inspect(digest: Digest, depth: number): Promise<boolean> {
    const { path, members } = this.#files
    const bytes = unlessWrong(() => members.read(blobName(digest), 'manifest'))
    if (bytes === undefined) return true
    this.#readBytes += bytes.length
    if (this.#readBytes > MAX_READ_BYTES)
      throw new LoamError(
        'SOURCE_INVALID',
        `read OCI layout ${path}: the manifests in its index have more than ${MAX_READ_BYTES >> 20} MiB`,
        { hint: `Name one image by its digest: oci:DIR:sha256:…, oci-archive:FILE:sha256:…` },
      )
    const what = `manifest ${digest}`
    if (unlessWrong(() => isArtifact(bytes, what)) === true) return false
    const document = unlessWrong(() => parseManifestDocument(bytes, undefined, what))
    // An empty index is an image that lacks everything: those who open it are told.
    if (document?.kind !== 'index' || document.manifests.length + document.others.length === 0) return true
    if (depth === MAX_DEPTH) return true
    for (const entry of imageEntries(document.manifests))
      if (await this.isImage(entry, depth + 1)) return true
    return false
  }
}

/** What is wrong with a document is told to those who open it. */
function unlessWrong<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (error instanceof LoamError) return undefined
    throw error
  }
}

/** Returns the name of a blob's file in a layout. */
export function blobName(digest: Digest): string {
  const { algorithm, hex } = splitDigest(digest)
  return `blobs/${algorithm}/${hex}`
}
