import { throwIfAborted } from '../errors/index.ts'
import type { Digest } from '../image/index.ts'
import type { LayerStore, LeaseLayerOptions, WantedLayer } from '../layers/index.ts'
import type { FileLock } from '../linux/index.ts'
import type { ImageRecord } from '../metadata/index.ts'
import type { ImageSource } from '../sources/index.ts'
import { describeLeftOutXattrs, type LeftOutXattrs } from '../tree/index.ts'
import { toWanted } from './image-record.ts'
import type { LazyPlan } from './lazy-pull.ts'
import type { GetOptions } from './store.ts'

/**
 * Leases all layers of an image, and fetches missing ones; if one fails, the others are stopped and no lease is left. @throws the errors of the
 * source and the layers
 */
export async function leaseLayers(
  store: LayerStore,
  { layers }: ImageRecord,
  source: ImageSource,
  options: GetOptions & { readonly plan: LazyPlan | undefined },
): Promise<FileLock[]> {
  const failed = new AbortController()
  const signal =
    options.signal === undefined ? failed.signal : AbortSignal.any([options.signal, failed.signal])
  // An image may have the same layer twice; it is fetched once.
  const positions = [...new Map(layers.map((layer, index) => [layer.diffId, { layer, index }])).values()]
  options.onEvent?.({
    kind: 'layers',
    layers: positions.map(({ layer, index }) => ({
      digest: layer.blobDigest,
      index,
      totalBytes: layer.blobBytes,
    })),
  })
  const results = await Promise.allSettled(
    positions.map(async ({ layer, index }) => {
      try {
        return await leaseLayer(store, toWanted(layer, source), options.plan, {
          signal,
          unpack: options.unpack ?? false,
          syncEarly: options.sync ?? false,
          onEvent: options.onEvent,
          onProgress: (progress) => {
            const { blobDigest: digest } = layer
            options.onEvent?.({ kind: 'layer', digest, index, count: layers.length, progress })
            if (progress.state === 'done' && progress.leftOutXattrs !== undefined)
              options.onEvent?.({ kind: 'note', text: describeLeftOut(digest, progress.leftOutXattrs) })
          },
        })
      } catch (error) {
        failed.abort(error)
        throw error
      }
    }),
  )
  const leases = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
  if (leases.length === results.length) return leases
  for (const lease of leases) lease.release()
  // The first failure is the cause; later ones are of layers that were stopped because of it.
  throwIfAborted(options.signal, `pull ${source.name}`)
  throw failed.signal.reason
}

/** Leases a layer, which may be partial if the image is pulled by a plan. */
export async function leaseLayer(
  store: LayerStore,
  layer: WantedLayer,
  plan: LazyPlan | undefined,
  options: LeaseLayerOptions & Pick<GetOptions, 'onEvent'>,
): Promise<FileLock> {
  if (plan === undefined) return store.lease(layer, options)
  const onEager = (why: string) => options.onEvent?.({ kind: 'eager', why })
  const { indexes, trusts } = plan
  return store.leaseLazily(layer, { ...options, index: indexes.get(layer.diffId), trusts, onEager })
}

/** Returns one line about the xattrs that the files of a layer do not get. */
export function describeLeftOut(layer: Digest, leftOut: LeftOutXattrs): string {
  return `layer ${layer}: ${describeLeftOutXattrs(leftOut)}`
}
