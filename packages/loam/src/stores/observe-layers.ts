import type { Activity, Attributes, OperationName, Span, SpanPart } from '../activity/index.ts'
import { redact } from '../errors/index.ts'
import type { Digest, ImageRequest } from '../image/index.ts'
import type { ImageAddress } from '../sources/index.ts'
import type { PullEvent } from './store.ts'

type OnEvent = ((event: PullEvent) => void) | undefined

/**
 * Returns a listener for the events of an operation that fetches: each layer becomes a part of the operation, and the operation gets the number
 * of layers that were fetched and of those that the store had, and the fetched bytes.
 */
function observeLayers(span: Span, onEvent: OnEvent): OnEvent {
  if (!span.isObserved) return onEvent
  const layers = new Map<Digest, { readonly part: SpanPart; bytes: number }>()
  const sums = { layersFetched: 0, layersShared: 0, layersLazy: 0, fetchedBytes: 0 }
  const onLayer = ({ digest, index, progress }: Extract<PullEvent, { kind: 'layer' }>) => {
    const layer = layers.get(digest) ?? { part: span.begin('layer', { digest, index }), bytes: 0 }
    layers.set(digest, layer)
    switch (progress.state) {
      case 'fetching':
        layer.bytes = progress.receivedBytes
        return
      case 'exists':
        sums.layersShared += 1
        break
      case 'lazy':
        sums.layersLazy += 1
        break
      case 'done':
        sums.layersFetched += 1
        sums.fetchedBytes += layer.bytes
        break
      case 'waiting':
        return
    }
    layer.part.end({ state: progress.state, fetchedBytes: layer.bytes })
    span.set(sums)
  }
  return (event) => {
    if (event.kind === 'layer') onLayer(event)
    else if (event.kind === 'resolved') span.set({ digest: event.digest })
    span.progress(event)
    onEvent?.(event)
  }
}

/** An operation that fetches, and its subject. */
export interface ObservedFetch {
  readonly activity: Activity
  /** As `images.pull`. */
  readonly operation: OperationName
  readonly attributes: Attributes
}

/** Runs an operation that fetches, and reports it and its layers to observers of the store. */
export async function observeFetch<Options extends { readonly onEvent?: OnEvent }, Result>(
  { activity, operation, attributes }: ObservedFetch,
  options: Options,
  act: (options: Options) => Promise<Result>,
): Promise<Result> {
  return activity.observe(operation, attributes, async (span) =>
    act(span.isObserved ? { ...options, onEvent: observeLayers(span, options.onEvent) } : options),
  )
}

/** Returns the address of a file with an image for observers, without secrets. */
export function addressLabel(address: ImageAddress): string {
  return typeof address === 'string' ? imageLabel(address) : 'a stream'
}

/** Returns the name of an image for observers: as the user wrote it, without secrets. */
export function imageLabel(image: string | ImageRequest): string {
  if (typeof image === 'string') return image.startsWith('{') ? 'a request' : redact(image)
  if ('docker' in image) return redact(image.docker.name)
  return redact('appc' in image ? image.appc.name : image.oci.name)
}
