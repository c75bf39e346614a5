import { randomBytes } from 'node:crypto'
import {
  createReadStream,
  createWriteStream,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { isErrno, LoamError, throwIfAborted, toLoamError } from '../errors/index.ts'
import {
  type Descriptor,
  type Digest,
  finishDigest,
  formatIndex,
  MEDIA_TYPES,
  parseManifestDocument,
  splitDigest,
  startDigest,
} from '../image/index.ts'
import { FileLock } from '../linux/index.ts'
import { FULL_NAME, indexEntries, LAYOUT_VERSION, REF_NAME } from './image-archive.ts'
import type { ImageSink, SinkManifest } from './image-sink.ts'

/**
 * Opens a directory to copy images into: an OCI layout, which is created if the directory does not exist or is empty. Images that it has stay, but for one of
 * the same name. A file gets its name when it is complete. @throws OUTPUT_EXISTS for a directory that is not a layout
 */
export function openLayoutSink(folder: string, signal: AbortSignal | undefined): ImageSink {
  prepare(folder)
  return new LayoutSink(folder, signal)
}

function prepare(folder: string): void {
  const has = (name: string) => statSync(join(folder, name), { throwIfNoEntry: false }) !== undefined
  if (has('oci-layout')) return
  if (has('index.json') || (has('.') && readdirSync(folder).length > 0))
    throw new LoamError('OUTPUT_EXISTS', `copy to ${folder}: it exists, and is not an OCI layout`, {
      hint: 'Name a directory that does not exist, or an OCI layout.',
    })
  try {
    mkdirSync(join(folder, 'blobs'), { recursive: true })
    replace(join(folder, 'oci-layout'), Buffer.from(LAYOUT_VERSION))
  } catch (error) {
    throw toLoamError(error, `copy to ${folder}`)
  }
}

class LayoutSink implements ImageSink {
  readonly isSinglePlatform = false
  readonly #folder: string
  readonly #signal: AbortSignal | undefined

  constructor(folder: string, signal: AbortSignal | undefined) {
    this.#folder = folder
    this.#signal = signal
  }

  async findBlob({ digest, sizeBytes }: Descriptor): Promise<'exists' | undefined> {
    const path = this.#pathOf(digest)
    if (statSync(path, { throwIfNoEntry: false })?.size !== sizeBytes) return undefined
    const hash = startDigest(digest)
    for await (const chunk of createReadStream(path)) {
      throwIfAborted(this.#signal, `copy to ${this.#folder}`)
      hash.update(chunk as Buffer)
    }
    return finishDigest(splitDigest(digest).algorithm, hash) === digest ? 'exists' : undefined
  }

  async putBlob({ digest }: Descriptor, open: () => AsyncIterable<Buffer>): Promise<void> {
    const path = this.#pathOf(digest)
    const unfinished = temporary(path)
    try {
      const file = createWriteStream(unfinished, { flags: 'wx', flush: true })
      await pipeline(Readable.from(open()), file, this.#signal === undefined ? {} : { signal: this.#signal })
      renameSync(unfinished, path)
    } catch (error) {
      rmSync(unfinished, { force: true })
      throw toLoamError(error, `write ${path}`, this.#signal)
    }
  }

  async hasManifest(): Promise<boolean> {
    // A layout may contain an index without all of its images.
    return false
  }

  async putManifest({ digest, bytes }: SinkManifest): Promise<void> {
    replace(this.#pathOf(digest), bytes)
  }

  async putImage(manifest: SinkManifest, names: readonly string[]): Promise<void> {
    await this.putManifest(manifest)
    // Another copy may add its image at this moment.
    using _lock = await this.#lock()
    const added = indexEntries(manifest, names)
    const nameOf = ({ annotations }: Descriptor) => annotations?.[FULL_NAME] ?? annotations?.[REF_NAME]
    const kept = this.#entries().filter((entry) =>
      added.every(
        (own) => nameOf(own) !== nameOf(entry) || (nameOf(own) === undefined && own.digest !== entry.digest),
      ),
    )
    const index = formatIndex({ mediaType: MEDIA_TYPES.ociIndex, manifests: [...kept, ...added] })
    replace(join(this.#folder, 'index.json'), index)
  }

  async #lock(): Promise<FileLock> {
    const path = join(this.#folder, 'oci-layout')
    try {
      return await FileLock.acquire(path, { signal: this.#signal })
    } catch (error) {
      throw toLoamError(error, `lock ${path}`, this.#signal)
    }
  }

  #entries(): Descriptor[] {
    const path = join(this.#folder, 'index.json')
    try {
      const document = parseManifestDocument(readFileSync(path), undefined, path)
      return document.kind === 'index' ? [...document.manifests, ...document.others] : []
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return []
      throw toLoamError(error, `read ${path}`)
    }
  }

  #pathOf(digest: Digest): string {
    const { algorithm, hex } = splitDigest(digest)
    const folder = join(this.#folder, 'blobs', algorithm)
    mkdirSync(folder, { recursive: true })
    return join(folder, hex)
  }
}

function temporary(path: string): string {
  return `${path}.loam-${randomBytes(6).toString('hex')}`
}

function replace(path: string, bytes: Buffer): void {
  const unfinished = temporary(path)
  try {
    writeFileSync(unfinished, bytes, { flag: 'wx', flush: true })
    renameSync(unfinished, path)
  } catch (error) {
    rmSync(unfinished, { force: true })
    throw toLoamError(error, `write ${path}`)
  }
}
