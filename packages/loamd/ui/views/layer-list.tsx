import type { ImageContents } from 'loamfs'
import type { VNode } from 'preact'
import { formatBytes, formatCount, shortDigest } from '../format.ts'
import { Bar } from '../parts/bar.tsx'

/** The layers as they lie on each other, the base at the bottom; one of them, or all, is chosen to be looked into. */
export function LayerList({
  layers,
  history,
  chosen,
  choose,
}: {
  readonly layers: ImageContents['layers']
  readonly history: readonly string[]
  readonly chosen: number | undefined
  readonly choose: (layer: number | undefined) => void
}): VNode {
  const largest = Math.max(1, ...layers.map(({ bytes }) => bytes))
  const rows = layers.map((layer, index) => ({ layer, index })).toReversed()
  return (
    <>
      <p class="legend legend-above note" aria-hidden="true">
        <span class="dot tone-own" /> seen by containers <span class="dot tone-hidden" /> hidden by later
        layers
      </p>
      <fieldset class="strata">
        <legend class="unseen">Which layer to look into</legend>
        <label class="stratum stratum-all">
          <input
            type="radio"
            name="layer"
            checked={chosen === undefined}
            onChange={() => choose(undefined)}
          />
          <span class="stratum-number">all</span>
          <span class="stratum-name">All layers, as containers see them</span>
        </label>
        {rows.map(({ layer, index }) => (
          <label key={index} class="stratum">
            <input type="radio" name="layer" checked={chosen === index} onChange={() => choose(index)} />
            <span class="stratum-number">{index + 1}</span>
            <span class="stratum-name" title={history[index]}>
              <span class="unseen">Layer: </span>
              {history[index] || shortDigest(layer.diffId)}
            </span>
            <Bar
              whole={largest}
              parts={[
                { bytes: layer.bytes - layer.hiddenBytes, tone: 'tone-own' },
                { bytes: layer.hiddenBytes, tone: 'tone-hidden' },
              ]}
            />
            <span class="stratum-size number">
              {formatBytes(layer.bytes)}
              <span class="note">
                {layer.hiddenBytes > 0
                  ? `${formatBytes(layer.hiddenBytes)} wasted`
                  : formatCount(layer.files, 'file')}
              </span>
            </span>
          </label>
        ))}
      </fieldset>
    </>
  )
}
