/*
 * An OCI image layout: `oci-layout`, `index.json`, `blobs/<algorithm>/<hex>`; a folder, or the same in a tar.
 * Source: OCI image-spec image-layout.md.
 */
import * as v from 'valibot'
import { LoamError } from '../errors/index.ts'
import {
  check,
  type Descriptor,
  type Digest,
  digestOf,
  type DocumentKind,
  describeEntries,
  formatReference,
  goStruct,
  imageEntries,
  type ImageIndex,
  type ImageReference,
  isDigest,
  isForeign,
  parseManifestDocument,
  parseStrictJson,
  type Platform,
  rankEntries,
  splitDigest,
} from '../image/index.ts'
import { normalizeReference } from './archived-images.ts'
import type { ImageSource, SourceDocument } from './image-source.ts'
import { fileLocations, formatImageName } from './image-name.ts'
import type { ArchiveFiles } from './archive-files.ts'
import { blobName, imagesOf, type LayoutFiles } from './layout-images.ts'

const REF_NAME = 'org.opencontainers.image.ref.name'
/** Annotation of `ctr images export` and `nerdctl save`. */
const CONTAINERD_NAME = 'io.containerd.image.name'

const LayoutSchema = goStruct({ imageLayoutVersion: v.pipe(v.string(), v.regex(/^1\./)) })

/** A layout, and the image to choose. */
export interface LayoutOptions {
  readonly path: string
  /** A tag or a digest; undefined for the only image, or the latest. */
  readonly selector: string | undefined
  /** The entries that are the image; undefined: those that `selector` finds. */
  readonly entries?: readonly Descriptor[] | undefined
  readonly members: ArchiveFiles
  /** Chooses among entries of one name. */
  readonly platform: Platform
}

/** Creates a source of an image in a layout. */
export function ociLayoutSource(options: LayoutOptions): ImageSource {
  const { path, selector, members } = options
  const name = formatImageName({ transport: 'oci', path, selector })
  const locations = fileLocations('oci', path)
  return {
    name,
    asked: { locations, pin: isDigest(selector) ? selector : undefined },
    from: () => locations,
    origin: () => name,
    aliases: [],
    isRemote: false,
    isConverted: false,
    resolve: async (signal) => resolveInLayout(options, signal),
    getDocument: async (descriptor, { kind }) => readBlob(path, members, descriptor, kind),
    openBlob: (descriptor, range) => {
      const blob = blobName(descriptor.digest)
      if (isForeign(descriptor) && members.sizeOf(blob) === undefined) throw leftOut(path, descriptor)
      return members.stream(blob, range)
    },
  }
}

/** A file may name any host, and Loam contacts none for it. */
function leftOut(path: string, { digest, urls = [] }: Descriptor): LoamError {
  const hosts = new Set(urls.flatMap((url) => (URL.canParse(url) ? new URL(url).host : [])))
  return new LoamError(
    'SOURCE_INVALID',
    `read OCI layout ${path}: it lacks layer ${digest}, which must not be distributed; the manifest says that it is at ${[...hosts].join(', ')}`,
    {
      hint: 'Pull the image from its registry, or copy it from there as a docker-archive, which has all layers.',
    },
  )
}

/** Returns whether the files are a layout. */
export function isOciLayout(members: ArchiveFiles): boolean {
  return members.sizeOf('oci-layout') !== undefined && members.sizeOf('index.json') !== undefined
}

/**
 * Returns the name of the image in a layout that a reference refers to; undefined if the layout has one image at most, under any name.
 * @throws IMAGE_NOT_FOUND for several images none of which has that name, SOURCE_INVALID, CANCELED
 */
export async function selectInLayout(
  reference: ImageReference,
  files: LayoutFiles,
): Promise<string | undefined> {
  const { path, members } = files
  const entries = readIndex(path, members).manifests.filter((entry) => namesOf(entry).length > 0)
  const named = await imagesOf(entries, files)
  const names = named.flatMap(namesOf)
  const { typed, tag, registry } = reference
  const full = formatReference(reference)
  const found =
    names.find((name) => name === full || normalizeReference(name, registry) === full) ??
    names.find((name) => name === tag)
  if (found !== undefined || countImages(named) <= 1) return found
  throw new LoamError(
    'IMAGE_NOT_FOUND',
    `read OCI layout ${path}: it has ${countImages(named)} images none of them is ${typed}`,
    { hint: `Name one of: ${names.slice(0, 10).join(', ')} (oci:DIR:TAG, oci-archive:FILE:TAG)` },
  )
}

/** Counts images. Entries are one image if they have one name, for several platforms, or one digest, under several names. */
function countImages(entries: readonly Descriptor[]): number {
  const count = (key: (entry: Descriptor) => string) => new Set(entries.map(key)).size
  return Math.min(
    count(({ digest }) => digest),
    count((entry) => namesOf(entry).join('\n')),
  )
}

async function resolveInLayout(
  options: LayoutOptions,
  signal: AbortSignal | undefined,
): Promise<SourceDocument> {
  const { path, members } = options
  const descriptor = await choose(readIndex(path, members), options, signal)
  const document = readBlob(path, members, descriptor, 'manifest')
  return { bytes: document, mediaType: descriptor.mediaType, digest: descriptor.digest }
}

/** Reads the index of a layout. @throws SOURCE_INVALID, DOCUMENT_INVALID */
export function readIndex(path: string, members: ArchiveFiles): ImageIndex {
  if (!isOciLayout(members)) {
    throw new LoamError('SOURCE_INVALID', `read OCI layout ${path}: it has no oci-layout or no index.json`, {
      hint:
        members.sizeOf('manifest.json') === undefined
          ? undefined
          : `It looks like a docker save archive: try docker-archive:${path}`,
    })
  }
  const layout = members.read('oci-layout', 'manifest') ?? Buffer.alloc(0)
  check(LayoutSchema, parseStrictJson(layout, `${path}/oci-layout`), `${path}/oci-layout`)
  const bytes = members.read('index.json', 'manifest') ?? Buffer.alloc(0)
  const index = parseManifestDocument(bytes, undefined, `${path}/index.json`)
  if (index.kind !== 'index')
    throw new LoamError('SOURCE_INVALID', `read ${path}/index.json: it is not an index`)
  return index
}

/**
 * Chooses an entry of index.json by its name or digest; without either, the only image, else `latest`. If several entries for
 * several platforms have the same name, or none, the platform decides, as in any index.
 */
async function choose(
  index: ImageIndex,
  { path, selector, entries, members, platform }: LayoutOptions,
  signal: AbortSignal | undefined,
): Promise<Descriptor> {
  if (entries === undefined && isDigest(selector)) {
    return index.manifests.find(({ digest }) => digest === selector) ?? describeUnlisted(selector)
  }
  const named = entries ?? index.manifests.filter((entry) => namesOf(entry).includes(selector ?? 'latest'))
  const isAny = selector === undefined && named.length === 0
  const found = distinct(imageEntries(isAny ? index.manifests : named))
  const images = found.length > 1 ? await imagesOf(found, { path, members, signal }) : found
  const [only, other] = images
  // The requested image is used for any platform, as from a registry.
  if (only !== undefined && other === undefined) return only
  const [best] = rankEntries(images, platform)
  if (best?.isSure === true && countImages(images) === 1) return best.entry
  throw notChosen(path, selector, images.length === 0 ? index : { ...index, manifests: images })
}

function notChosen(path: string, selector: string | undefined, index: ImageIndex): LoamError {
  // The longest name has the most information.
  const known = index.manifests.map((entry) => namesOf(entry).at(-1) ?? entry.digest)
  const images = countImages(index.manifests)
  const what =
    selector === undefined
      ? `it has ${known.length} images, and none is named latest`
      : images > 1
        ? `it has ${images} images ${selector}`
        : `it has no image ${selector}, or not for this platform`
  return new LoamError('IMAGE_NOT_FOUND', `read OCI layout ${path}: ${what}`, {
    hint:
      index.manifests.length + index.others.length === 0
        ? 'The layout is empty.'
        : `It has: ${describeEntries(index)}; by name or digest: ${known.slice(0, 10).join(', ')}`,
  })
}

/** Returns the names of an entry: its tag, and the whole name. */
export function namesOf({ annotations }: Descriptor): string[] {
  return [annotations?.[REF_NAME], annotations?.[CONTAINERD_NAME]].filter((name) => name !== undefined)
}

/** Removes repeated digests: an image with several names has an entry for each. */
function distinct(entries: readonly Descriptor[]): Descriptor[] {
  return [...new Map(entries.toReversed().map((entry) => [entry.digest, entry])).values()].toReversed()
}

/** Returns a descriptor of a manifest that only an index in the layout names. The file's size is accepted. */
function describeUnlisted(digest: Digest): Descriptor {
  return { mediaType: '', digest, sizeBytes: -1 }
}

function readBlob(path: string, members: ArchiveFiles, descriptor: Descriptor, kind: DocumentKind): Buffer {
  const { digest, sizeBytes } = descriptor
  const bytes = members.read(blobName(digest), kind)
  if (bytes === undefined) {
    throw new LoamError('SOURCE_INVALID', `read OCI layout ${path}: it does not contain blob ${digest}`)
  }
  if (sizeBytes >= 0 && bytes.length !== sizeBytes) {
    throw new LoamError(
      'SIZE_MISMATCH',
      `verify blob ${digest} of ${path}: expected ${sizeBytes} bytes, got ${bytes.length}`,
    )
  }
  const actual = digestOf(bytes, splitDigest(digest).algorithm)
  if (actual !== digest) {
    throw new LoamError('DIGEST_MISMATCH', `verify blob ${digest} of ${path}: its digest is ${actual}`)
  }
  return bytes
}
