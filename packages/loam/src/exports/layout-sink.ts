import { randomBytes } from 'node:crypto'
import {
  createReadStream,
  createWriteStream,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { LoamError, throwIfAborted, toLoamError } from '../errors/index.ts'
import {
  changeIndex,
  type Descriptor,
  type Digest,
  finishDigest,
  formatIndex,
  type IndexEntry,
  MEDIA_TYPES,
  splitDigest,
  startDigest,
} from '../image/index.ts'
import { FileLock, HeldDirectory, showHeld } from '../linux/index.ts'
import { FULL_NAME, indexEntries, LAYOUT_VERSION, REF_NAME } from './image-archive.ts'
import type { ImageSink, SinkManifest } from './image-sink.ts'

/**
 * Opens a directory to copy images into: an OCI layout, which is created if the directory does not exist or is empty. Images that it has stay, but for one of
 * the same name. A file gets its name when it is complete. No symlink in the directory is followed. @throws OUTPUT_EXISTS for a directory that is not a layout
 */
export function openLayoutSink(folder: string, signal: AbortSignal | undefined): ImageSink & Disposable {
  const directory = openFolder(folder)
  try {
    prepare(directory)
    return new LayoutSink(directory, signal)
  } catch (error) {
    const shown = showHeld(toLoamError(error, `copy to ${folder}`), [directory])
    directory[Symbol.dispose]()
    throw shown
  }
}

function openFolder(folder: string): HeldDirectory {
  try {
    const followed = HeldDirectory.openFollowed(folder)
    if (followed !== undefined) return followed
    const path = resolve(folder)
    mkdirSync(dirname(path), { recursive: true })
    using parent = HeldDirectory.open(dirname(path))
    const [directory] = parent.enterOrMake(basename(path), DIRECTORY_MODE)
    return directory
  } catch (error) {
    throw toLoamError(error, `copy to ${folder}`)
  }
}

function prepare(folder: HeldDirectory): void {
  const names = folder.list()
  if (names.includes('oci-layout')) return
  if (names.length > 0)
    throw new LoamError('OUTPUT_EXISTS', `copy to ${folder.shown}: it exists, and is not an OCI layout`, {
      hint: 'Name a directory that does not exist, or an OCI layout.',
    })
  replace(folder, 'oci-layout', Buffer.from(LAYOUT_VERSION))
}

class LayoutSink implements ImageSink, Disposable {
  readonly isSinglePlatform = false
  readonly #folder: HeldDirectory
  readonly #signal: AbortSignal | undefined
  readonly #held = new DisposableStack()
  readonly #blobs: HeldDirectory
  readonly #algorithms = new Map<string, HeldDirectory>()

  constructor(folder: HeldDirectory, signal: AbortSignal | undefined) {
    const [blobs] = folder.enterOrMake('blobs', DIRECTORY_MODE)
    this.#folder = this.#held.use(folder)
    this.#blobs = this.#held.use(blobs)
    this.#signal = signal
  }

  async findBlob({ digest, sizeBytes }: Descriptor): Promise<'exists' | undefined> {
    const [folder, name] = this.#placeOf(digest)
    using found = folder.find(name)
    if (found?.stats.isFile() !== true || found.stats.size !== sizeBytes) return undefined
    const hash = startDigest(digest)
    for await (const chunk of createReadStream(found.path)) {
      throwIfAborted(this.#signal, `copy to ${this.#folder.shown}`)
      hash.update(chunk as Buffer)
    }
    return finishDigest(splitDigest(digest).algorithm, hash) === digest ? 'exists' : undefined
  }

  async putBlob({ digest }: Descriptor, open: () => AsyncIterable<Buffer>): Promise<void> {
    const [folder, name] = this.#placeOf(digest)
    const unfinished = folder.at(temporary(name))
    try {
      const file = createWriteStream(unfinished, { flags: 'wx', flush: true })
      await pipeline(Readable.from(open()), file, this.#signal === undefined ? {} : { signal: this.#signal })
      renameSync(unfinished, folder.at(name))
    } catch (error) {
      rmSync(unfinished, { force: true })
      throw showHeld(toLoamError(error, `write ${join(folder.shown, name)}`, this.#signal), [folder])
    }
  }

  async hasManifest(): Promise<boolean> {
    // A layout may contain an index without all of its images.
    return false
  }

  async putManifest({ digest, bytes }: SinkManifest): Promise<void> {
    const [folder, name] = this.#placeOf(digest)
    replace(folder, name, bytes)
  }

  async putImage(manifest: SinkManifest, names: readonly string[]): Promise<void> {
    await this.putManifest(manifest)
    // Another copy may add its image at this moment.
    using _lock = await this.#lock()
    const index = changeIndex(this.#readIndex(), join(this.#folder.shown, 'index.json'), (entries) =>
      names.length === 0
        ? withImage(entries, manifest)
        : names.reduce((all: readonly IndexEntry[], name) => withName(all, manifest, name), entries),
    )
    replace(this.#folder, 'index.json', index)
  }

  async #lock(): Promise<FileLock> {
    try {
      return await FileLock.acquire(this.#folder.at('oci-layout'), { signal: this.#signal })
    } catch (error) {
      const attempted = `lock ${join(this.#folder.shown, 'oci-layout')}`
      throw showHeld(toLoamError(error, attempted, this.#signal), [this.#folder])
    }
  }

  #readIndex(): Buffer {
    using found = this.#folder.find('index.json')
    if (found === undefined) return formatIndex({ mediaType: MEDIA_TYPES.ociIndex, manifests: [] })
    const path = join(this.#folder.shown, 'index.json')
    if (!found.stats.isFile()) throw new LoamError('OUTPUT_EXISTS', `read ${path}: it is not a regular file`)
    try {
      return readFileSync(found.path)
    } catch (error) {
      throw toLoamError(error, `read ${path}`)
    }
  }

  /** The directory of a blob, and its name there. */
  #placeOf(digest: Digest): readonly [folder: HeldDirectory, name: string] {
    const { algorithm, hex } = splitDigest(digest)
    const known = this.#algorithms.get(algorithm)
    if (known !== undefined) return [known, hex]
    try {
      const [folder] = this.#blobs.enterOrMake(algorithm, DIRECTORY_MODE)
      this.#algorithms.set(algorithm, this.#held.use(folder))
      return [folder, hex]
    } catch (error) {
      throw showHeld(toLoamError(error, `write ${join(this.#blobs.shown, algorithm)}`), [this.#blobs])
    }
  }

  [Symbol.dispose](): void {
    this.#held.dispose()
  }
}

/** Returns the entries of a layout with one of an image without a name. */
function withImage(entries: readonly IndexEntry[], manifest: SinkManifest): readonly IndexEntry[] {
  const isThere = entries.some((entry) => entry.digest === manifest.digest && namesIn(entry).length === 0)
  return isThere ? entries : [...entries, ...indexEntries(manifest, [])]
}

/** Returns the entries of a layout in which a name, and each tag, means one image. The entry that has the name for the same image stays. */
function withName(
  entries: readonly IndexEntry[],
  manifest: SinkManifest,
  name: string,
): readonly IndexEntry[] {
  const known = entries.find((entry) => entry.digest === manifest.digest && namesIn(entry).includes(name))
  const kept = entries.flatMap((entry) => (entry === known ? entry : (withoutName(entry, name) ?? [])))
  if (known !== undefined) return kept
  const added = indexEntries(manifest, [name]).map((entry) => {
    const { [REF_NAME]: tag = '', ...others } = entry.annotations ?? {}
    // The tag of a whole name is the name that others look for; another image may have it.
    const isTaken = tag !== name && kept.some(({ annotations }) => annotations?.[REF_NAME] === tag)
    return isTaken ? { ...entry, annotations: others } : entry
  })
  return [...kept, ...added]
}

/** Returns what stays of an entry whose name another image gets: with its whole name if the tag is taken, as skopeo keeps it. */
function withoutName(entry: IndexEntry, name: string): IndexEntry | undefined {
  const { [REF_NAME]: tag, ...others } = entry.annotations ?? {}
  const full = others[FULL_NAME]
  if (full === name) return undefined
  if (tag !== name) return entry
  return full === undefined ? undefined : { ...entry, annotations: others }
}

function namesIn({ annotations }: Descriptor): string[] {
  return [annotations?.[REF_NAME], annotations?.[FULL_NAME]].filter((name) => name !== undefined)
}

/** For everybody, as far as the umask allows that. */
const DIRECTORY_MODE = 0o777

function temporary(name: string): string {
  return `${name}.loam-${randomBytes(6).toString('hex')}`
}

function replace(folder: HeldDirectory, name: string, bytes: Buffer): void {
  const unfinished = folder.at(temporary(name))
  try {
    writeFileSync(unfinished, bytes, { flag: 'wx', flush: true })
    renameSync(unfinished, folder.at(name))
  } catch (error) {
    rmSync(unfinished, { force: true })
    throw showHeld(toLoamError(error, `write ${join(folder.shown, name)}`), [folder])
  }
}
