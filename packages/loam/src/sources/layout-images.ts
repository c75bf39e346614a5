// Which entries of a layout's index are images: some say it themselves, for others their documents are read.
import { LoamError, throwIfAborted } from '../errors/index.ts'
import { type Descriptor, type Digest, imageEntries, isArtifact, splitDigest } from '../image/index.ts'
import { TimeSlice } from '../linux/index.ts'
import type { ArchiveFiles } from './archive-files.ts'

/** For all documents of a layout that are read only to know what they are. */
const MAX_READ_BYTES = 64 << 20

/** A layout whose documents are read. */
export interface LayoutFiles {
  readonly path: string
  readonly members: ArchiveFiles
  readonly signal: AbortSignal | undefined
}

/**
 * Leaves out entries that are no images, although the index does not say so: signatures, and what else refers to an image. Each document is read
 * once, however many entries name it. @throws SOURCE_INVALID for a layout with too much to read, CANCELED
 */
export async function imagesOf(entries: readonly Descriptor[], files: LayoutFiles): Promise<Descriptor[]> {
  const kinds = new EntryKinds(files)
  const images: Descriptor[] = []
  for (const entry of imageEntries(entries)) if (await kinds.isImage(entry)) images.push(entry)
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

  async isImage({ digest }: Descriptor): Promise<boolean> {
    await this.#slice.rest()
    throwIfAborted(this.#files.signal, `read OCI layout ${this.#files.path}`)
    const known = this.#known.get(digest) ?? this.#inspect(digest)
    this.#known.set(digest, known)
    return known
  }

  #inspect(digest: Digest): boolean {
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
    return unlessWrong(() => !isArtifact(bytes, `manifest ${digest}`)) ?? true
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
