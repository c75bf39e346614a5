import type { PartialLayerInfo } from 'loamfs'
import type { VNode } from 'preact'
import { formatBytes } from '../format.ts'

/** Says how much of the data of layers is not here, of which these are partial, and why it does not come. Nothing if all of it is here. */
export function MissingData({ partials }: { readonly partials: readonly PartialLayerInfo[] }): VNode | null {
  if (partials.length === 0) return null
  const missing = partials.reduce((sum, { presentBytes, totalBytes }) => sum + totalBytes - presentBytes, 0)
  const failing = partials.filter(({ failure }) => failure !== undefined)
  const waiting = failing.reduce((sum, { waitingReads }) => sum + waitingReads, 0)
  const why = waiting > 0 ? ', starved' : failing.length > 0 ? ', stalled' : ''
  return (
    <>
      <span class={`badge ${failing.length === 0 ? '' : 'badge-bad'}`}>
        {formatBytes(missing)} missing{why}
      </span>
      {[...new Set(failing.map(({ failure }) => failure))].map((failure) => (
        <span key={failure} class="sub">
          {failure}
        </span>
      ))}
    </>
  )
}
