/*
 * All media types, and their kinds. They are written here and nowhere else (scripts/words-in-code.test.ts).
 * Sources: OCI image-spec media-types.md; distribution's pages on schema 1 and 2; cosign's SIGNATURE_SPEC.md; sigstore's bundle; docs/lazy.md.
 */

/** The types of documents and layers of images, and of artifacts attached to them. */
export const MEDIA_TYPES = {
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociEmpty: 'application/vnd.oci.empty.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  ociLayerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  ociLayerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  ociForeignLayer: 'application/vnd.oci.image.layer.nondistributable.v1.tar',
  ociForeignLayerGzip: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
  ociForeignLayerZstd: 'application/vnd.oci.image.layer.nondistributable.v1.tar+zstd',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerSchema1: 'application/vnd.docker.distribution.manifest.v1+json',
  dockerSignedSchema1: 'application/vnd.docker.distribution.manifest.v1+prettyjws',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar',
  dockerLayerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  dockerLayerZstd: 'application/vnd.docker.image.rootfs.diff.tar.zstd',
  dockerForeignLayer: 'application/vnd.docker.image.rootfs.foreign.diff.tar',
  dockerForeignLayerGzip: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
  simpleSigning: 'application/vnd.dev.cosign.simplesigning.v1+json',
  sigstoreBundle: 'application/vnd.dev.sigstore.bundle.v0.3+json',
  sigstoreTrustedRoot: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1',
  inToto: 'application/vnd.in-toto+json',
  lazyArtifact: 'application/vnd.loamfs.lazy.v1',
  lazyLayer: 'application/vnd.loamfs.lazy.layer.v1',
  lazyProfile: 'application/vnd.loamfs.lazy.profile.v1+json',
} as const

/** The Accept header of a request for a manifest. */
export const MANIFEST_ACCEPT: readonly string[] = [
  MEDIA_TYPES.ociIndex,
  MEDIA_TYPES.ociManifest,
  MEDIA_TYPES.dockerList,
  MEDIA_TYPES.dockerManifest,
]

/** Types for the Accept header in addition to the current ones, the least preferred last. */
export const SCHEMA_1_ACCEPT: readonly string[] = [MEDIA_TYPES.dockerSignedSchema1, MEDIA_TYPES.dockerSchema1]

const INDEX_TYPES: readonly string[] = [MEDIA_TYPES.ociIndex, MEDIA_TYPES.dockerList]
const MANIFEST_TYPES: readonly string[] = [MEDIA_TYPES.ociManifest, MEDIA_TYPES.dockerManifest]
/** The last two are those of early pushes to Docker Hub (moby distribution/registry.go: ImageTypes; distribution#1621). */
const CONFIG_TYPES: readonly string[] = [
  MEDIA_TYPES.ociConfig,
  MEDIA_TYPES.dockerConfig,
  'application/octet-stream',
  '',
]
const LAYER_TYPES: readonly string[] = [
  MEDIA_TYPES.ociLayer,
  MEDIA_TYPES.ociLayerGzip,
  MEDIA_TYPES.ociLayerZstd,
  MEDIA_TYPES.dockerLayer,
  MEDIA_TYPES.dockerLayerGzip,
  MEDIA_TYPES.dockerLayerZstd,
  MEDIA_TYPES.ociForeignLayer,
  MEDIA_TYPES.ociForeignLayerGzip,
  MEDIA_TYPES.ociForeignLayerZstd,
  MEDIA_TYPES.dockerForeignLayer,
  MEDIA_TYPES.dockerForeignLayerGzip,
]

/** Returns the media type of a Content-Type, without parameters. */
export function plainType(contentType: string | undefined): string | undefined {
  return contentType?.split(';')[0]?.trim().toLowerCase()
}

/** Returns whether a media type says nothing of a manifest or an index, whose body decides then: static web servers and some proxies send only these. */
export function isVagueType(mediaType: string | undefined): boolean {
  return mediaType === undefined || /^(?:|application\/(?:json|octet-stream)|text\/plain)$/.test(mediaType)
}

/** Returns whether a media type is that of an index. */
export function isIndexType(mediaType: string): boolean {
  return INDEX_TYPES.includes(mediaType)
}

/** Returns whether a media type is that of a manifest of one image. */
export function isManifestType(mediaType: string): boolean {
  return MANIFEST_TYPES.includes(mediaType)
}

/** Returns whether a media type may be that of an image's config. */
export function isConfigType(mediaType: string): boolean {
  return CONFIG_TYPES.includes(mediaType)
}

/**
 * Returns whether a media type is a file system layer. Only its first bytes show how the layer is compressed:
 * builders have labelled plain tars as gzip for years, and every engine takes them.
 */
export function isLayerType(mediaType: string): boolean {
  return LAYER_TYPES.includes(mediaType)
}

/** Returns whether a media type is that of a layer which must not be distributed. */
export function isForeignLayerType(mediaType: string): boolean {
  return /nondistributable|foreign/.test(mediaType)
}

/** Returns whether a layer must not be distributed and has addresses of its own, so that registries and layouts may lack it. */
export function isForeign({
  mediaType,
  urls = [],
}: {
  readonly mediaType: string
  readonly urls?: readonly string[] | undefined
}): boolean {
  return urls.length > 0 && isForeignLayerType(mediaType)
}

/** Returns whether a media type is that of a Docker schema 1 manifest. */
export function isSchema1Type(mediaType: string): boolean {
  return mediaType.startsWith('application/vnd.docker.distribution.manifest.v1+')
}

/** Returns whether a media type is that of a sigstore bundle, in any version. */
export function isBundleType(mediaType: string): boolean {
  return /^application\/vnd\.dev\.sigstore\.bundle(?:\.v0\.\d+\+json|\+json;version=0\.\d+)$/.test(mediaType)
}

/** The compression of a layer, as in its type. */
export type LayerCompression = 'none' | 'gzip' | 'zstd'

const OCI_LAYERS = {
  none: MEDIA_TYPES.ociLayer,
  gzip: MEDIA_TYPES.ociLayerGzip,
  zstd: MEDIA_TYPES.ociLayerZstd,
}
const DOCKER_LAYERS = {
  none: MEDIA_TYPES.dockerLayer,
  gzip: MEDIA_TYPES.dockerLayerGzip,
  zstd: MEDIA_TYPES.dockerLayerZstd,
}

/** Returns the type of a layer as manifests of a family name it: Docker's or OCI's. */
export function layerType(family: 'docker' | 'oci', compression: LayerCompression): string {
  return (family === 'docker' ? DOCKER_LAYERS : OCI_LAYERS)[compression]
}

/** Returns the family of a media type, Docker's or OCI's. */
export function familyOf(mediaType: string): 'docker' | 'oci' {
  return mediaType.startsWith('application/vnd.docker.') ? 'docker' : 'oci'
}

/** Returns the compression of a layer, by its type. */
export function compressionOf(mediaType: string): LayerCompression {
  const named = /[.+](gzip|zstd)$/.exec(mediaType)?.[1]
  return named === 'gzip' || named === 'zstd' ? named : 'none'
}
