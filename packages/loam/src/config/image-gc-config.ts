import { isAbsolute } from 'node:path'
import * as v from 'valibot'
import { isLoamError, LoamError, toLoamError } from '../errors/index.ts'
import { check, parseStrictJson } from '../image/index.ts'
import { readRegular } from '../linux/index.ts'
import { ImageRequestSchema, type ImageRequest } from '../sources/index.ts'
import type { SettingType } from './setting-types.ts'

/** Limit of a configuration file, which has some kilobytes. */
const MAX_FILE_BYTES = 4 << 20

/** Watermarks of the store of one type of images. */
export interface StoreWatermarks {
  /** Bytes above which images are collected. */
  readonly highBytes: number
  /** Bytes down to which they are collected. */
  readonly lowBytes: number
}

/** When to collect images, and how many. Mesos's fields, and Loam's watermarks. */
export interface ImageGcConfig {
  /** Part of the store's file system, 0 to 1, to keep free. */
  readonly headroom: number
  /** Milliseconds from one collection to the next. */
  readonly intervalMs: number
  /** Images that are never collected. */
  readonly excludedImages: readonly (string | ImageRequest)[]
  /** Part of the file system in use at which a collection ends, once it has begun below the headroom. */
  readonly lowWatermark: number
  /** Watermarks of each store: a collection begins above the high one, and ends at the low one. */
  readonly stores: Readonly<Partial<Record<'docker' | 'appc', StoreWatermarks>>>
}

const share = v.pipe(v.number(), v.minValue(0), v.maxValue(1))
const bytes = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const StoreSchema = v.pipe(
  v.strictObject({ high_bytes: bytes, low_bytes: v.optional(bytes) }),
  v.check(
    ({ high_bytes: high, low_bytes: low }) => low === undefined || low <= high,
    'has low_bytes above high_bytes',
  ),
)
const GcSchema = v.pipe(
  v.strictObject({
    image_disk_headroom: share,
    image_disk_watch_interval: v.strictObject({
      nanoseconds: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
    }),
    excluded_images: v.optional(v.array(v.union([v.string(), ImageRequestSchema])), []),
    low_watermark: v.optional(share),
    stores: v.optional(
      v.strictObject({ docker: v.optional(StoreSchema), appc: v.optional(StoreSchema) }),
      {},
    ),
  }),
  v.check(
    ({ image_disk_headroom: headroom, low_watermark: low }) => low === undefined || low <= 1 - headroom,
    'has a low_watermark above what the headroom leaves',
  ),
)

/** The form that is in force; a program may give it. */
const OwnSchema = v.strictObject({
  headroom: share,
  intervalMs: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  excludedImages: v.array(v.union([v.string(), ImageRequestSchema])),
  lowWatermark: share,
  stores: v.record(v.picklist(['docker', 'appc']), v.strictObject({ highBytes: bytes, lowBytes: bytes })),
})

/** JSON text, an absolute path or file:// of a file with it, or a table of the configuration file. */
export const imageGcConfig: SettingType<ImageGcConfig> = {
  expected: 'a garbage collection configuration',
  parse: (value) => toGcConfig(typeof value === 'string' ? readJson(value) : value),
  take: (value) => (v.is(OwnSchema, value) ? value : undefined),
}

function readJson(text: string): unknown {
  if (text.trimStart().startsWith('{')) return parseStrictJson(Buffer.from(text), 'image_gc_config')
  const path = text.replace(/^file:\/\//, '')
  if (!isAbsolute(path)) {
    throw new LoamError(
      'CONFIG_INVALID',
      `read image_gc_config: ${JSON.stringify(text)} is neither JSON nor an absolute path`,
      {
        hint: 'Give JSON that begins with {, or the absolute path of a file with it. docs/configuration.md has an example.',
      },
    )
  }
  try {
    return parseStrictJson(readRegular(path, MAX_FILE_BYTES, 'CONFIG_INVALID'), path)
  } catch (error) {
    throw toLoamError(error, `read image_gc_config from ${path}`)
  }
}

/** What a configuration has at least. */
export const IMAGE_GC_EXAMPLE =
  '{"image_disk_headroom":0.1,"image_disk_watch_interval":{"nanoseconds":3600000000000}}'

function checkGcConfig(value: unknown): v.InferOutput<typeof GcSchema> {
  try {
    return check(GcSchema, value, 'image_gc_config')
  } catch (error) {
    if (!isLoamError(error)) throw error
    const hint = `The least is ${IMAGE_GC_EXAMPLE}; docs/configuration.md has all fields.`
    throw new LoamError('CONFIG_INVALID', error.message, { cause: error, hint })
  }
}

function toGcConfig(value: unknown): ImageGcConfig {
  const config = checkGcConfig(value)
  const watermarks = (store: v.InferOutput<typeof StoreSchema>) => ({
    highBytes: store.high_bytes,
    lowBytes: store.low_bytes ?? store.high_bytes,
  })
  const { docker, appc } = config.stores
  return {
    headroom: config.image_disk_headroom,
    intervalMs: Math.max(1, Math.round(config.image_disk_watch_interval.nanoseconds / 1e6)),
    excludedImages: config.excluded_images,
    lowWatermark: config.low_watermark ?? 1 - config.image_disk_headroom,
    stores: {
      ...(docker === undefined ? {} : { docker: watermarks(docker) }),
      ...(appc === undefined ? {} : { appc: watermarks(appc) }),
    },
  }
}
