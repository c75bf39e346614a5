import * as v from 'valibot'
import { type ImageRequest, ImageRequestSchema, NAMED_TYPES } from '../image/index.ts'
import type { PushEvent } from '../images/index.ts'
import type { PullEvent } from '../stores/index.ts'
import { count, digest, list, matching, orUndefined, path, text } from './schema.ts'

/** Fields of every request that may fetch something. */
export const fetchFields = {
  /** Credentials for this request only: the text of a Docker config.json. */
  dockerConfig: v.optional(text),
  /** A file in the format of Docker's config.json. */
  authFile: v.optional(path),
  /** Hosts that may be contacted without TLS, in addition to the configured ones. */
  insecure: v.optional(list(text)),
  /** A directory of certificates and mirrors, read before the configured ones. */
  certsDir: v.optional(path),
}

/** Fields of every request about an image. */
export const imageFields = {
  ...fetchFields,
  /** As `linux/arm64`. Left out: this machine's. */
  platform: v.optional(text),
  /** The type of image that a bare name refers to. Left out: a Docker image. */
  imageType: v.optional(v.picklist(NAMED_TYPES)),
}

/** Fields of every request that can leave the data of layers for later. */
export const lazyFields = {
  /** True: pull lazily what has a trusted lazy index. False: pull all data first. Left out: as the setting `lazy_pull` says. */
  lazy: v.optional(v.boolean()),
  /** Digest of the artifact of lazy indexes that is meant. */
  lazyIndex: v.optional(digest),
}

/** An image by its name, or by a request as frameworks send it. */
export const image: v.GenericSchema<unknown, string | ImageRequest> = v.union([text, ImageRequestSchema])

/** Events of a pull. */
export const PullEventSchema = matching<PullEvent>()(
  v.variant('kind', [
    v.object({ kind: v.literal('resolving'), name: v.string() }),
    v.object({ kind: v.literal('note'), text: v.string(), isAdvice: v.exactOptional(v.boolean()) }),
    v.object({ kind: v.literal('eager'), why: v.string() }),
    v.object({
      kind: v.literal('file'),
      address: v.string(),
      receivedBytes: count,
      isDone: v.boolean(),
    }),
    v.object({ kind: v.literal('retry'), attempted: v.string(), reason: v.string(), waitMs: v.number() }),
    v.object({ kind: v.literal('resolved'), name: v.string(), digest }),
    v.object({
      kind: v.literal('other-platform'),
      name: v.string(),
      platform: v.string(),
      hostPlatform: v.string(),
    }),
    v.object({
      kind: v.literal('layers'),
      layers: list(v.object({ digest, index: count, totalBytes: count })),
    }),
    v.object({
      kind: v.literal('work'),
      what: v.string(),
      doneBytes: count,
      totalBytes: orUndefined(count),
      isDone: v.boolean(),
    }),
    v.object({
      kind: v.literal('layer'),
      digest,
      index: count,
      count,
      progress: v.variant('state', [
        v.object({ state: v.literal('exists') }),
        v.object({ state: v.literal('waiting'), holderPid: orUndefined(count) }),
        v.object({
          state: v.literal('done'),
          leftOutXattrs: orUndefined(v.object({ files: count, names: list(v.string()) })),
        }),
        v.object({ state: v.literal('lazy'), totalBytes: count }),
        v.object({ state: v.literal('fetching'), receivedBytes: count, totalBytes: count }),
      ]),
    }),
  ]),
)

/** Events of a push. */
export const PushEventSchema = matching<PushEvent>()(
  v.variant('kind', [
    v.object({
      kind: v.literal('blob'),
      digest,
      route: v.picklist(['exists', 'mounted', 'copied', 'uploaded', 'packed', 'left out']),
    }),
    v.object({ kind: v.literal('blobs'), blobs: list(v.object({ digest, totalBytes: count })) }),
    v.object({ kind: v.literal('sending'), digest, sentBytes: count, totalBytes: count }),
    v.object({ kind: v.literal('digest'), from: digest, to: digest, reason: v.string() }),
  ]),
)
