import { LoamError } from '../errors/index.ts'
import { DEFAULT_DOCUMENT_LIMITS, type DocumentLimits } from '../image/index.ts'

/** The limits of one layer. Checked while it streams; on by default, because no peer has such limits. */
export interface LayerLimits {
  /** Uncompressed tar, bytes. */
  readonly tarBytes: number
  /** Entries in the archive. */
  readonly entries: number
  /** Size of one unpacked file in bytes; a sparse file may claim petabytes in a few hundred bytes. */
  readonly fileBytes: number
  /** xattrs of one layer together, bytes. */
  readonly xattrBytes: number
  /** Depth of nested directories. */
  readonly depth: number
  /** Uncompressed bytes for each compressed one, past the first 16 MiB. Gzip cannot do more than 1032. */
  readonly ratio: number
}

export const DEFAULT_LAYER_LIMITS: LayerLimits = {
  tarBytes: 128 * 2 ** 30,
  entries: 8_000_000,
  fileBytes: 8 * 2 ** 40,
  xattrBytes: 256 * 2 ** 20,
  depth: 1024,
  ratio: 2000,
}

/** The limits of one image. */
export interface ImageLimits extends DocumentLimits {
  readonly layers: number
  /** Uncompressed tars of all layers together, bytes. */
  readonly bytes: number
  /** From the first request to the last byte, ms; a registry that is endlessly slow is worse than one that fails. */
  readonly pullMs: number
}

/** Layers in a chain of parents, if an image does not state their number. */
export const MAX_LAYERS = 1000

export const DEFAULT_IMAGE_LIMITS: ImageLimits = {
  layers: MAX_LAYERS,
  bytes: 512 * 2 ** 30,
  ...DEFAULT_DOCUMENT_LIMITS,
  pullMs: 6 * 3_600_000,
}

/** The setting of each limit. */
const SETTINGS = {
  tarBytes: 'limit_layer_bytes',
  entries: 'limit_layer_entries',
  fileBytes: 'limit_file_bytes',
  xattrBytes: 'limit_layer_xattr_bytes',
  depth: 'limit_layer_depth',
  ratio: 'limit_layer_ratio',
  layers: 'limit_image_layers',
  bytes: 'limit_image_bytes',
  pullMs: 'limit_pull_time',
} as const

/** Creates the error for an exceeded limit: it names the limit and says how to raise it. */
export function overLimit(what: string, limit: keyof typeof SETTINGS, allowed: number): LoamError {
  const name = SETTINGS[limit]
  const [value, kind] = limit === 'pullMs' ? [`${allowed / 1000}secs`, 'TIME'] : [allowed, 'NUMBER']
  return new LoamError('LAYER_LIMIT', `${what}: ${name} allows ${value}`, {
    hint: `If the image is right, raise it: --${name.replaceAll('_', '-')} ${kind}, LOAM_${name.toUpperCase()}, or ${name} in the configuration file.`,
  })
}

// The limits of the kernel itself (linux/limits.h, NAME_MAX and PATH_MAX).
export const MAX_NAME_BYTES = 255
export const MAX_PATH_BYTES = 4095
