import type { StorePaths } from '../content/index.ts'
import type { DiffId } from '../image/index.ts'
import type { LazySource, MetadataStore } from '../metadata/index.ts'
import type { ImageSource } from '../sources/index.ts'
import type { LayerLimits } from '../tree/index.ts'
import type { DescriptorKeeper } from './descriptor-keeper.ts'
import type { LazyPaths } from './lazy-paths.ts'
import type { DeniedLayer } from './protocol.ts'

export interface HandlerOptions {
  readonly paths: StorePaths
  readonly lazyPaths: LazyPaths
  readonly metadata: MetadataStore
  readonly keeper: DescriptorKeeper
  readonly limits: LayerLimits
  readonly bootId: string
  readonly stallTimeoutMs: number
  /** Descriptors that this process may have. */
  readonly descriptorLimit: number
  /** Uses the source of a layer's blob; `tries` is the number of failures before. */
  readonly withSource: <T>(
    source: LazySource,
    tries: number,
    act: (source: ImageSource) => Promise<T>,
  ) => Promise<T>
  /** Unmounts what shows these layers, whose reads waited for nobody for a while. Returns the mount points. */
  readonly unmountPoisoned: (diffIds: readonly DiffId[]) => readonly string[]
  /** Called when the index of a layer has turned out to be wrong. */
  readonly onDenied: (denied: DeniedLayer) => void
  /** Called when a layer is not served any more. */
  readonly onIdle: () => void
}
