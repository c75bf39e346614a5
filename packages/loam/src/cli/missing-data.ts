import type { PartialLayerInfo } from '../lazy/index.ts'
import { formatBytes, shortDigest } from './format.ts'
import type { ListField } from './lists.ts'
import type { Output } from './output.ts'

/** Says in a few words how much of the data of layers is not here, of which these are partial. */
export function describeData(partials: readonly PartialLayerInfo[]): string {
  if (partials.length === 0) return 'complete'
  const missing = partials.reduce((sum, { presentBytes, totalBytes }) => sum + totalBytes - presentBytes, 0)
  const failing = partials.filter(({ failure }) => failure !== undefined)
  const why = failing.some(isStarved) ? ', starved' : failing.length > 0 ? ', stalled' : ''
  return `${formatBytes(missing)} missing${why}`
}

function isStarved({ waitingReads, failure }: PartialLayerInfo): boolean {
  return failure !== undefined && waitingReads > 0
}

/** Returns the column that says how much data is here. It is hidden where all rows are complete. */
export function dataField<Row extends { readonly partials: readonly PartialLayerInfo[] }>(
  rows: readonly Row[],
  leftOut?: number,
): ListField<Row> {
  const isHidden = rows.every(({ partials }) => partials.length === 0)
  const order = leftOut === undefined ? {} : { leftOut }
  return { name: 'Data', heading: 'DATA', text: ({ partials }) => describeData(partials), isHidden, ...order }
}

/** Returns the partial layers of rows of one object, as a part of its JSON: nothing if all its data is here. */
export function inJson(rows: readonly { readonly partials: readonly PartialLayerInfo[] }[]): {
  readonly partialLayers?: readonly PartialLayerInfo[]
} {
  const partialLayers = [...new Set(rows.flatMap(({ partials }) => partials))]
  return partialLayers.length === 0 ? {} : { partialLayers }
}

/** Tells why the data of layers does not come. */
export function noteMissing(output: Output, partials: readonly PartialLayerInfo[]): void {
  for (const layer of new Set(partials)) {
    const { diffId, failure, waitingReads } = layer
    if (failure === undefined) continue
    const waiting =
      waitingReads === 0 ? '' : `${waitingReads} ${waitingReads === 1 ? 'read waits' : 'reads wait'}; `
    output.note(`the data of layer ${shortDigest(diffId)} does not come: ${waiting}${failure}`)
  }
}
