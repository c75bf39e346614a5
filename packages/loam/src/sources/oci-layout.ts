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
  DOCUMENT_LIMITS,
  formatReference,
  type ImageIndex,
  type ImageReference,
  isDigest,
  parseManifestDocument,
  parseStrictJson,
  splitDigest,
} from '../image/index.ts'
import type { ImageSource, SourceDocument } from './image-source.ts'
import { formatImageName } from './image-name.ts'
import type { Members } from './members.ts'

const REF_NAME = 'org.opencontainers.image.ref.name'
/** What `ctr images export` and `nerdctl save` write besides. */
const CONTAINERD_NAME = 'io.containerd.image.name'

const LayoutSchema = v.object({ imageLayoutVersion: v.pipe(v.string(), v.regex(/^1\./)) })

/** Makes a source of an image in a layout. `selector` is a tag or a digest. */
export function ociLayoutSource(path: string, selector: string | undefined, members: Members): ImageSource {
  return {
    name: formatImageName({ transport: 'oci', path, selector }),
    aliases: [],
    isRemote: false,
    isPrepared: false,
    resolve: async () => resolveInLayout(path, selector, members),
    getDocument: async (descriptor, maxBytes) => readBlob(path, members, descriptor, maxBytes),
    openBlob: (descriptor, signal) => members.stream(blobName(descriptor.digest), signal),
  }
}

/** Tells whether there is a layout. */
export function isOciLayout(members: Members): boolean {
  return members.sizeOf('oci-layout') !== undefined && members.sizeOf('index.json') !== undefined
}

/**
 * Returns by which name a layout has the image that a reference means; undefined where it has one image at most, whatever its name.
 * @throws IMAGE_NOT_FOUND for several images of which none is called so, SOURCE_INVALID
 */
export function selectInLayout(
  path: string,
  reference: ImageReference,
  members: Members,
): string | undefined {
  const named = readIndex(path, members)
    .manifests.map(namesOf)
    .filter((names) => names.length > 0)
  const { typed, tag } = reference
  const wanted = [formatReference(reference), typed, ...(tag === undefined ? [] : [tag])]
  const found = wanted.find((name) => named.some((names) => names.includes(name)))
  if (found !== undefined || named.length <= 1) return found
  throw new LoamError(
    'IMAGE_NOT_FOUND',
    `read OCI layout ${path}: it has ${named.length} images and none of them is ${typed}`,
    { hint: `Name one of: ${named.flat().slice(0, 10).join(', ')} (oci:DIR:TAG, oci-archive:FILE:TAG)` },
  )
}

function resolveInLayout(path: string, selector: string | undefined, members: Members): SourceDocument {
  const index = readIndex(path, members)
  const descriptor = choose(path, index.manifests, selector)
  const document = readBlob(path, members, descriptor, DOCUMENT_LIMITS.manifestBytes)
  return { bytes: document, mediaType: descriptor.mediaType, digest: descriptor.digest }
}

function readIndex(path: string, members: Members): ImageIndex {
  if (!isOciLayout(members)) {
    throw new LoamError('SOURCE_INVALID', `read OCI layout ${path}: it has no oci-layout or no index.json`, {
      hint:
        members.sizeOf('manifest.json') === undefined
          ? undefined
          : `It looks like a docker save archive: try docker-archive:${path}`,
    })
  }
  const layout = members.read('oci-layout', 1 << 16) ?? Buffer.alloc(0)
  check(LayoutSchema, parseStrictJson(layout, `${path}/oci-layout`), `${path}/oci-layout`)
  const bytes = members.read('index.json', DOCUMENT_LIMITS.manifestBytes) ?? Buffer.alloc(0)
  const index = parseManifestDocument(bytes, undefined, `${path}/index.json`)
  if (index.kind !== 'index')
    throw new LoamError('SOURCE_INVALID', `read ${path}/index.json: it is not an index`)
  return index
}

function namesOf({ annotations }: Descriptor): string[] {
  return [annotations?.[REF_NAME], annotations?.[CONTAINERD_NAME]].filter((name) => name !== undefined)
}

function choose(path: string, manifests: readonly Descriptor[], selector: string | undefined): Descriptor {
  const [only] = manifests
  const wanted = selector ?? (manifests.length === 1 ? undefined : 'latest')
  const found =
    wanted === undefined
      ? only
      : manifests.find((entry) =>
          isDigest(wanted) ? entry.digest === wanted : namesOf(entry).includes(wanted),
        )
  if (found !== undefined) return found
  if (isDigest(wanted)) return describeUnlisted(wanted)
  const known = manifests.map((entry) => namesOf(entry)[0] ?? entry.digest)
  throw new LoamError('IMAGE_NOT_FOUND', `read OCI layout ${path}: it has no image ${wanted ?? ''}`, {
    hint: known.length === 0 ? 'The layout is empty.' : `It has: ${known.slice(0, 10).join(', ')}`,
  })
}

/** A digest may name a manifest that only an index in the layout names; its size is then what the file has. */
function describeUnlisted(digest: Digest): Descriptor {
  return { mediaType: '', digest, sizeBytes: -1 }
}

function readBlob(path: string, members: Members, descriptor: Descriptor, maxBytes: number): Buffer {
  const { digest, sizeBytes } = descriptor
  const bytes = members.read(blobName(digest), maxBytes)
  if (bytes === undefined) {
    throw new LoamError('SOURCE_INVALID', `read OCI layout ${path}: it has no blob ${digest}`)
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

function blobName(digest: Digest): string {
  const { algorithm, hex } = splitDigest(digest)
  return `blobs/${algorithm}/${hex}`
}
