import * as v from 'valibot'
import type {
  CollectionReport,
  ImageInspection,
  IndexedImage,
  ListedImage,
  MesosImportReport,
  PruneReport,
  PulledImage,
  PushedImage,
  UntaggedName,
} from '../images/index.ts'
import type { ImageRecord } from '../metadata/index.ts'
import { ContentsSchema, DiskSchema, HistorySchema, LayersSchema, TreeDiffSchema } from './image-trees.ts'
import { image, imageFields, lazyFields, PullEventSchema, PushEventSchema } from './fetch.ts'
import { operation, upload } from './operation.ts'
import {
  chainId,
  count,
  diffId,
  digest,
  failure,
  list,
  matching,
  orUndefined,
  path,
  text,
  timeMs,
} from './schema.ts'

const imageType = v.picklist(['docker', 'appc'])

const recordFields = {
  type: imageType,
  digest,
  mediaType: v.string(),
  configDigest: digest,
  chainId: orUndefined(chainId),
  platform: v.string(),
  sizeBytes: count,
  created: orUndefined(v.string()),
  pulledAtMs: count,
  usedAtMs: count,
  isLocal: v.boolean(),
  layers: list(v.object({ diffId, blobDigest: digest, blobMediaType: v.string(), blobBytes: count })),
}
/** The store's record of an image. */
export const ImageRecordSchema = matching<ImageRecord>()(v.object(recordFields))

const ListedImageSchema = matching<ListedImage>()(
  v.object({ ...recordFields, tarBytes: count, names: list(v.string()), damage: orUndefined(v.string()) }),
)

const pulledFields = { name: v.string(), digest, image: ImageRecordSchema }
/** An image that is in the store. */
export const PulledImageSchema = matching<PulledImage>()(v.object(pulledFields))

const InspectionSchema = matching<ImageInspection>()(
  v.object({
    image: ListedImageSchema,
    manifest: v.unknown(),
    config: v.unknown(),
    decisions: list(
      v.object({
        repository: v.string(),
        scope: v.string(),
        policy: v.string(),
        ruleDigest: digest,
        signer: orUndefined(v.string()),
        decidedAtMs: count,
      }),
    ),
    lazy: v.exactOptional(
      v.object({
        why: orUndefined(v.string()),
        layers: list(
          v.object({
            diffId,
            isComplete: v.boolean(),
            indexDigest: digest,
            trustedBy: v.string(),
            denied: orUndefined(v.string()),
          }),
        ),
      }),
    ),
    leftOutXattrs: v.exactOptional(list(v.object({ diffId, files: count, names: list(v.string()) }))),
    appcManifest: v.exactOptional(v.unknown()),
  }),
)

const pruneFields = {
  images: list(v.object({ digest, names: list(v.string()) })),
  layers: list(v.object({ diffId: digest, tarBytes: count })),
  blobs: list(digest),
}
const PruneReportSchema = matching<PruneReport>()(v.object({ ...pruneFields, failed: list(failure) }))
const CollectionReportSchema = matching<CollectionReport>()(
  v.object({
    ...pruneFields,
    evicted: list(v.object({ diffId, tarBytes: count })),
    reasons: list(v.string()),
    wantedBytes: v.number(),
    freedBytes: count,
  }),
)

/** Descriptor of a blob. */
export const DescriptorSchema = v.object({
  mediaType: v.string(),
  digest,
  sizeBytes: count,
  platform: v.optional(
    v.object({ os: v.string(), architecture: v.string(), variant: v.optional(v.string()) }),
  ),
  annotations: v.optional(v.record(v.string(), v.string())),
  artifactType: v.optional(v.string()),
  urls: v.optional(list(v.string())),
})
const IndexedImageSchema = matching<IndexedImage>()(
  v.object({
    digest,
    layers: list(v.object({ diffId, blobDigest: digest, indexDigest: digest, indexBytes: count })),
    artifact: orUndefined(digest),
  }),
)
const PushedImageSchema = matching<PushedImage>()(
  v.object({
    digest,
    layers: list(DescriptorSchema),
    changes: list(v.object({ from: digest, to: digest, reason: v.string() })),
    lazyIndexes: v.exactOptional(IndexedImageSchema),
  }),
)

const UntaggedSchema = matching<UntaggedName>()(v.object({ name: v.string(), images: list(digest) }))

const MesosReportSchema = matching<MesosImportReport>()(
  v.object({
    stores: list(v.object({ type: imageType, path: v.string() })),
    images: list(v.object({ name: v.string(), type: imageType, digest: v.string() })),
    failed: list(failure),
    containers: list(v.string()),
  }),
)

/** Fields of a request that gives an image a name. */
export const commitFields = {
  ...imageFields,
  name: text,
  /** Image whose config is the base of the new one. */
  base: v.optional(text),
  /** Replace the name even if an image that came from the name's own registry has it. */
  replace: v.optional(v.boolean()),
  /** Changes to the config: instructions of a Dockerfile. */
  changes: v.optional(list(v.string())),
  /** Comment in the image's history. */
  message: v.optional(v.string()),
  author: v.optional(v.string()),
  /** Time that the image says it was created at, in milliseconds since 1970. */
  createdAtMs: v.optional(timeMs),
}

/** Operations on images. */
export const IMAGES = {
  'images.list': operation({
    method: 'GET',
    path: '/v1/images',
    summary: 'List the images in the store.',
    request: v.strictObject({}),
    result: list(ListedImageSchema),
  }),
  'images.inspect': operation({
    method: 'GET',
    path: '/v1/images/inspect',
    summary: 'Find an image by name or digest.',
    request: v.strictObject({ ...imageFields, image: text }),
    result: InspectionSchema,
  }),
  'images.contents': operation({
    method: 'GET',
    path: '/v1/images/contents',
    summary: 'List a directory of an image or of one of its layers, with sizes and what later layers hide.',
    request: v.strictObject({
      ...imageFields,
      image: text,
      /** Path of the directory, in the form of the names that are listed. Left out: the root. */
      path: v.optional(text),
      /** Number of the layer, base first, from 0. Left out: the image as containers see it. */
      layer: v.optional(count),
    }),
    result: ContentsSchema,
    isShared: () => true,
  }),
  'images.history': operation({
    method: 'GET',
    path: '/v1/images/history',
    summary: 'Return how an image was made, step by step.',
    request: v.strictObject({ ...imageFields, image: text }),
    result: HistorySchema,
  }),
  'images.layers': operation({
    method: 'GET',
    path: '/v1/images/layers',
    summary: 'Report what each layer of an image adds, replaces, removes and hides, and its largest files.',
    request: v.strictObject({
      ...imageFields,
      image: text,
      /** How many of the largest files of each layer. Left out: 10. */
      largest: v.optional(count),
    }),
    result: LayersSchema,
    isShared: () => true,
  }),
  'images.diff': operation({
    method: 'GET',
    path: '/v1/images/diff',
    summary: 'Compare two images or containers, by names, attributes and content.',
    request: v.strictObject({
      ...imageFields,
      from: text,
      /** Left out: `from` is a container, and its image is compared with it. */
      to: v.optional(text),
      /** Whether times of change count. */
      times: v.optional(v.boolean()),
    }),
    result: TreeDiffSchema,
    isShared: () => true,
  }),
  'images.disks': operation({
    method: 'POST',
    path: '/v1/images/disks',
    summary: 'Describe an image, pulled if needed, or the image of a container as one disk without a copy.',
    request: v.strictObject({ ...imageFields, image: text }),
    result: DiskSchema,
    event: PullEventSchema,
    isShared: () => true,
  }),
  'images.pull': operation({
    method: 'POST',
    path: '/v1/images/pull',
    summary: 'Pull an image into the store, whether or not the store already has it.',
    request: v.strictObject({ ...imageFields, ...lazyFields, image }),
    result: PulledImageSchema,
    event: PullEventSchema,
    isShared: () => true,
  }),
  'images.put': operation({
    method: 'POST',
    path: '/v1/images/put',
    summary: 'Import the image of a file, directory or URL under a name.',
    request: v.strictObject({
      ...imageFields,
      address: text,
      name: text,
      replace: v.optional(v.boolean()),
    }),
    result: PulledImageSchema,
    event: PullEventSchema,
  }),
  'images.importMesos': operation({
    method: 'POST',
    path: '/v1/images/import-mesos',
    summary: "Import the images of a Mesos agent's stores.",
    request: v.strictObject({ workDir: path, replace: v.optional(v.boolean()) }),
    result: MesosReportSchema,
    event: PullEventSchema,
  }),
  'images.push': operation({
    method: 'POST',
    path: '/v1/images/push',
    summary: 'Upload an image of the store to a registry, under its own name or another.',
    request: v.strictObject({
      ...imageFields,
      image: text,
      to: v.optional(text),
      allPlatforms: v.optional(v.boolean()),
      replaceIndex: v.optional(v.boolean()),
      /** Also make the lazy indexes of its layers, and push them beside it. */
      index: v.optional(v.boolean()),
    }),
    result: PushedImageSchema,
    event: v.union([PushEventSchema, PullEventSchema]),
  }),
  'images.index': operation({
    method: 'POST',
    path: '/v1/images/index',
    summary: 'Make the lazy indexes of the layers of an image, which need not be in the store.',
    request: v.strictObject({
      ...imageFields,
      image: text,
      /** Push them to the repository of the image's name. */
      push: v.optional(v.boolean()),
      /** A directory for them. */
      output: v.optional(path),
    }),
    result: IndexedImageSchema,
    event: PullEventSchema,
  }),
  'images.tag': operation({
    method: 'POST',
    path: '/v1/images/tag',
    summary: 'Give an image of the store one more name of a registry or of Appc.',
    request: v.strictObject({ ...imageFields, image: text, name: text, replace: v.optional(v.boolean()) }),
    result: PulledImageSchema,
    event: PullEventSchema,
  }),
  'images.untag': operation({
    method: 'DELETE',
    path: '/v1/images/tag',
    summary: 'Remove a name of an image. The image stays, also without any name.',
    request: v.strictObject({ imageType: imageFields.imageType, name: text }),
    result: UntaggedSchema,
  }),
  'images.remove': operation({
    method: 'DELETE',
    path: '/v1/images',
    summary: 'Remove a name of an image, and the image with its last name.',
    request: v.strictObject({ ...imageFields, image: text }),
    result: v.object({
      /** Digest of the image, if it was removed. */
      removed: orUndefined(digest),
    }),
  }),
  'images.prune': operation({
    method: 'POST',
    path: '/v1/images/prune',
    summary: 'Remove images without a name that no container uses, and what no image needs.',
    request: v.strictObject({
      dryRun: v.optional(v.boolean()),
      all: v.optional(v.boolean()),
      local: v.optional(v.boolean()),
      excluded: v.optional(list(image)),
      type: v.optional(imageType),
    }),
    result: PruneReportSchema,
    isShared: ({ dryRun }) => dryRun === true,
  }),
  'images.collect': operation({
    method: 'POST',
    path: '/v1/images/collect',
    summary: 'Evict the least recently used images, as image_gc_config says.',
    request: v.strictObject({ dryRun: v.optional(v.boolean()) }),
    result: CollectionReportSchema,
  }),
  'images.commit': operation({
    method: 'POST',
    path: '/v1/images/commit',
    summary: 'Create an image from a container with all its layers, under a name.',
    request: v.strictObject({ ...commitFields, id: text }),
    result: PulledImageSchema,
    event: PullEventSchema,
  }),
}

/** Images that come as streams. */
export const IMAGE_UPLOADS = {
  'images.upload': upload({
    method: 'PUT',
    path: '/v1/images/put',
    summary: 'Import the image of an archive, which is the body of the request, under a name.',
    request: v.strictObject({
      platform: imageFields.platform,
      imageType: imageFields.imageType,
      name: text,
      replace: v.optional(v.boolean()),
    }),
    result: PulledImageSchema,
    event: PullEventSchema,
  }),
}

/** Schemas with a name in the description. */
export const IMAGE_SCHEMAS = {
  Image: image,
  PullEvent: PullEventSchema,
  PushEvent: PushEventSchema,
  ImageRecord: ImageRecordSchema,
  ListedImage: ListedImageSchema,
  PulledImage: PulledImageSchema,
  IndexedImage: IndexedImageSchema,
  ImageInspection: InspectionSchema,
  ImageContents: ContentsSchema,
  ImageDisk: DiskSchema,
  ImageHistory: HistorySchema,
  ImageLayers: LayersSchema,
  TreeDiff: TreeDiffSchema,
  PruneReport: PruneReportSchema,
  CollectionReport: CollectionReportSchema,
  PushedImage: PushedImageSchema,
  UntaggedName: UntaggedSchema,
  MesosImportReport: MesosReportSchema,
}
