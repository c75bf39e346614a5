import * as v from 'valibot'
import type { DiffId, Digest } from '../image/index.ts'
import { parseStrictJson } from '../image/index.ts'
import type { ImageRecord } from '../metadata/index.ts'
import { getImage } from './image-list.ts'
import type { ImageOptions } from './requests.ts'
import type { ImageServices } from './services.ts'

/** One step in the history of an image. */
export interface HistoryStep {
  /** When, as the image says: RFC 3339. Undefined: it does not say. */
  readonly created: string | undefined
  /** The command or instruction, as the image says; '' if it does not say. */
  readonly createdBy: string
  /** Remark of the program that did it. */
  readonly comment: string
  /** The layer that the step made; undefined for a step that changed the config alone. */
  readonly layer: HistoryLayer | undefined
}

/** A layer of a step. */
export interface HistoryLayer {
  /** Number of the layer, base first, from 0. */
  readonly index: number
  /** Digest of the tar. */
  readonly diffId: DiffId
  /** Digest of the blob in its registry. */
  readonly blobDigest: Digest
  /** Size of that blob. */
  readonly blobBytes: number
  /** Size of the tar; undefined if the layer is not in the store. */
  readonly tarBytes: number | undefined
}

/** How an image was made. */
export interface ImageHistory {
  /** Digest of the manifest. */
  readonly digest: Digest
  /** The first step first. */
  readonly steps: readonly HistoryStep[]
}

const HistorySchema = v.object({
  history: v.nullish(
    v.array(
      v.object({
        created: v.nullish(v.string()),
        created_by: v.nullish(v.string()),
        comment: v.nullish(v.string()),
        empty_layer: v.nullish(v.boolean()),
      }),
    ),
  ),
})

type HistoryServices = Pick<ImageServices, 'metadata' | 'blobs' | 'stores' | 'sources'>

/** Returns how an image of the store was made. @throws IMAGE_NOT_FOUND, DOCUMENT_DAMAGED */
export function readHistory(services: HistoryServices, text: string, options: ImageOptions): ImageHistory {
  const record = getImage(services, text, { ...options, attempted: 'read the history of' })
  return { digest: record.digest, steps: stepsOf(services, record) }
}

/** Layers belong to the steps that are not empty, in their order. A layer without a step gets one that says nothing. */
export function stepsOf({ blobs, metadata }: HistoryServices, record: ImageRecord): HistoryStep[] {
  const bytes = blobs.get(record.configDigest, 'config')
  const parsed = v.safeParse(HistorySchema, parseStrictJson(bytes, `config ${record.configDigest}`))
  const layers = record.layers.map(({ diffId, blobDigest, blobBytes }, index) => {
    const tarBytes = metadata.layers.find(diffId)?.tarBytes
    return { index, diffId, blobDigest, blobBytes, tarBytes }
  })
  const steps = (parsed.success ? (parsed.output.history ?? []) : []).map((step) => ({
    created: step.created ?? undefined,
    createdBy: step.created_by ?? '',
    comment: step.comment ?? '',
    layer: step.empty_layer === true ? undefined : layers.shift(),
  }))
  const others = layers.map((layer) => ({ created: undefined, createdBy: '', comment: '', layer }))
  return [...steps, ...others]
}
