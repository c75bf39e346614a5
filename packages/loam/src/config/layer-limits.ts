import type { LayerLimits } from '../tree/index.ts'
import type { Settings } from './settings.ts'

type LimitSettings = Pick<
  Settings,
  | 'limit_layer_depth'
  | 'limit_layer_bytes'
  | 'limit_layer_entries'
  | 'limit_file_bytes'
  | 'limit_layer_xattr_bytes'
  | 'limit_layer_ratio'
>

/** Returns the limits of layers that the settings give. */
export function layerLimits(values: LimitSettings): LayerLimits {
  return {
    depth: values.limit_layer_depth,
    tarBytes: values.limit_layer_bytes,
    entries: values.limit_layer_entries,
    fileBytes: values.limit_file_bytes,
    xattrBytes: values.limit_layer_xattr_bytes,
    ratio: values.limit_layer_ratio,
  }
}
