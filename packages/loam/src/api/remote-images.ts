import * as v from 'valibot'
import type { CopiedImage, LoadedImage, RemoteImage, RepositoryTags, SavedImage } from '../images/index.ts'
import { SAVE_FORMATS } from '../images/index.ts'
import { fetchFields, imageFields, PullEventSchema, PushEventSchema } from './fetch.ts'
import { DescriptorSchema, ImageRecordSchema } from './images.ts'
import { download, operation, upload } from './operation.ts'
import { count, fileMode, digest, list, matching, orUndefined, path, text } from './schema.ts'

const ReferrersSchema = list(
  v.object({
    kind: v.picklist(['signature', 'sbom', 'attestation', 'lazy-index', 'other']),
    digest,
    subject: digest,
    type: v.string(),
    predicates: list(v.string()),
    tag: orUndefined(v.string()),
  }),
)
const TagsSchema = matching<RepositoryTags>()(v.object({ repository: v.string(), tags: list(v.string()) }))
const RemoteImageSchema = matching<RemoteImage>()(
  v.object({
    name: v.string(),
    digest,
    mediaType: v.string(),
    raw: v.string(),
    platforms: list(v.object({ platform: v.string(), digest })),
    image: orUndefined(
      v.object({
        digest,
        platform: v.string(),
        manifest: v.unknown(),
        configDigest: digest,
        config: v.unknown(),
        layers: list(DescriptorSchema),
        sizeBytes: count,
      }),
    ),
    referrers: ReferrersSchema,
  }),
)

const CopiedSchema = matching<CopiedImage>()(
  v.object({
    from: v.string(),
    to: v.string(),
    digest,
    mediaType: v.string(),
    referrers: ReferrersSchema,
    keptReferrers: ReferrersSchema,
  }),
)
const SavedSchema = matching<readonly SavedImage[]>()(
  list(v.object({ name: orUndefined(v.string()), digest, storedDigest: digest })),
)
const LoadedSchema = matching<readonly LoadedImage[]>()(
  list(v.object({ names: list(v.string()), digest, image: ImageRecordSchema })),
)

/** Operations on images in registries and files, beside the store. */
export const REMOTE_IMAGES = {
  'images.copy': operation({
    method: 'POST',
    path: '/v1/images/copy',
    summary: 'Copy an image between registries, layouts and archives, unchanged and without the store.',
    request: v.strictObject({
      ...imageFields,
      from: text,
      to: text,
      /** Also copy signatures, SBOMs and attestations beside it, between registries. */
      referrers: v.optional(v.boolean()),
      force: v.optional(v.boolean()),
      mode: v.optional(fileMode),
    }),
    result: CopiedSchema,
    event: v.union([PushEventSchema, PullEventSchema]),
  }),
  'images.save': operation({
    method: 'POST',
    path: '/v1/images/save',
    summary: 'Write images of the store to one file.',
    request: v.strictObject({
      ...imageFields,
      images: list(text),
      output: path,
      format: v.optional(v.picklist(SAVE_FORMATS)),
      force: v.optional(v.boolean()),
      mode: v.optional(fileMode),
    }),
    result: SavedSchema,
    event: v.union([PushEventSchema, PullEventSchema]),
  }),
  'images.load': operation({
    method: 'POST',
    path: '/v1/images/load',
    summary: 'Import all images of a file, directory or URL under the names that they have in it.',
    request: v.strictObject({ ...imageFields, address: text, replace: v.optional(v.boolean()) }),
    result: LoadedSchema,
    event: PullEventSchema,
  }),
  'images.tags': operation({
    method: 'POST',
    path: '/v1/images/tags',
    summary: 'List the tags of a repository in its registry.',
    request: v.strictObject({ ...fetchFields, repository: text }),
    result: TagsSchema,
    isShared: () => true,
  }),
  'images.inspectRemote': operation({
    method: 'POST',
    path: '/v1/images/inspect-remote',
    summary: 'Look at an image in its registry or its file without pulling it.',
    request: v.strictObject({
      ...imageFields,
      image: text,
      /** False: leave out signatures, SBOMs and others that are kept beside it. */
      referrers: v.optional(v.boolean()),
    }),
    result: RemoteImageSchema,
    isShared: () => true,
  }),
}

/** Files with images that are sent as streams. */
export const IMAGE_DOWNLOADS = {
  'images.download': download({
    method: 'GET',
    mediaType: 'application/x-tar',
    path: '/v1/images/save',
    summary: 'Send images of the store as one archive.',
    request: v.strictObject({
      ...imageFields,
      images: list(text),
      format: v.optional(v.picklist(SAVE_FORMATS)),
    }),
    result: SavedSchema,
  }),
}

/** Files with images that come as streams. */
export const ARCHIVE_UPLOADS = {
  'images.uploadAll': upload({
    method: 'PUT',
    path: '/v1/images/load',
    summary: 'Import all images of an archive, which is the body of the request, under the names in it.',
    request: v.strictObject({
      platform: imageFields.platform,
      imageType: imageFields.imageType,
      replace: v.optional(v.boolean()),
    }),
    result: LoadedSchema,
    event: PullEventSchema,
  }),
}
