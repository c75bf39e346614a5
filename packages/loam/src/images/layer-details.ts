import type { Digest } from '../image/index.ts'
import type { LayerReport } from '../transform/index.ts'
import { type HistoryLayer, stepsOf } from './history.ts'
import { getImage } from './image-list.ts'
import type { ImageOptions } from './requests.ts'
import type { ImageServices } from './services.ts'

const DEFAULT_LARGEST = 10
const MAX_LARGEST = 1000

/** What to report of the layers of an image. */
export interface LayersOptions extends ImageOptions {
  /** How many of the largest files of each layer are listed, at most 1000. Undefined: 10. */
  readonly largest?: number | undefined
}

/** A layer of an image: what it adds, replaces, removes and hides, and what later layers hide of it. */
export interface ImageLayer extends HistoryLayer, LayerReport {
  /** The command or instruction that made it, as the image says; '' if it does not say. */
  readonly createdBy: string
}

/** The layers of an image. */
export interface ImageLayers {
  /** Digest of the manifest. */
  readonly digest: Digest
  /** Data of the files that containers see. */
  readonly bytes: number
  /** Regular files that containers see. */
  readonly files: number
  /** Data in layers that no container sees, since later layers replace or remove it. */
  readonly hiddenBytes: number
  /** Base first. */
  readonly layers: readonly ImageLayer[]
}

type LayerServices = Pick<ImageServices, 'metadata' | 'blobs' | 'stores' | 'sources' | 'layers' | 'trees'>

/** Reports the layers of an image of the store by their trees. Nothing is unpacked. @throws IMAGE_NOT_FOUND, LAYER_NOT_FOUND, DOCUMENT_DAMAGED */
export async function readLayers(
  services: LayerServices,
  text: string,
  options: LayersOptions,
): Promise<ImageLayers> {
  const { largest = DEFAULT_LARGEST, signal } = options
  const record = getImage(services, text, { ...options, attempted: 'look into' })
  const diffIds = record.layers.map(({ diffId }) => diffId)
  using _leases = await services.layers.leaseTrees(diffIds, signal)
  const files = diffIds.map((diffId) => services.layers.artifacts.filesOf(diffId, undefined))
  const count = Math.min(Math.max(0, largest), MAX_LARGEST)
  const report = await services.trees.report({ layers: files, largest: count }, signal)
  const steps = stepsOf(services, record)
  const layers = report.layers.flatMap((layer, index) => {
    const step = steps.find((each) => each.layer?.index === index)
    return step?.layer === undefined ? [] : [{ ...step.layer, createdBy: step.createdBy, ...layer }]
  })
  const { bytes, files: fileCount } = report
  const hiddenBytes = layers.reduce((sum, layer) => sum + layer.hiddenBytes, 0)
  return { digest: record.digest, bytes, files: fileCount, hiddenBytes, layers }
}
