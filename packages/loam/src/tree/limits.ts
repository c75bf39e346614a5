/** What one layer may ask for. Checked while it streams; on by default, because no peer has such limits. */
export interface LayerLimits {
  /** Uncompressed tar, bytes. */
  readonly tarBytes: number
  /** Entries in the archive. */
  readonly entries: number
  /** One file as unpacked, bytes; a sparse file may claim petabytes in a few hundred bytes. */
  readonly fileBytes: number
  /** xattrs of one layer together, bytes. */
  readonly xattrBytes: number
  /** Uncompressed bytes for each compressed one, past the first 16 MiB. Gzip cannot do more than 1032. */
  readonly ratio: number
}

export const DEFAULT_LAYER_LIMITS: LayerLimits = {
  tarBytes: 128 * 2 ** 30,
  entries: 8_000_000,
  fileBytes: 8 * 2 ** 40,
  xattrBytes: 256 * 2 ** 20,
  ratio: 2000,
}

/** Layers of one image. */
export const MAX_LAYERS = 1000

// What the kernel itself can do (linux/limits.h, NAME_MAX and PATH_MAX).
export const MAX_NAME_BYTES = 255
export const MAX_PATH_BYTES = 4095
