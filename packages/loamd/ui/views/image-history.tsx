import type { ImageHistory, ImageLayers } from 'loamfs'
import type { VNode } from 'preact'
import { useEffect, useMemo } from 'preact/hooks'
import { api } from '../api.ts'
import { formatAge, formatBytes, formatCount } from '../format.ts'
import { Loaded } from '../parts/states.tsx'
import { createResource } from '../resource.ts'

/** How an image was made: each step, the latest first, and what its layer does to the layers below it. */
export function ImageHistoryView({ digest }: { readonly digest: string }): VNode {
  const found = useMemo(
    () => createResource(async () => Promise.all([api.history(digest), api.layers(digest)])),
    [digest],
  )
  useEffect(() => {
    void found.refresh()
  }, [digest])
  return (
    <section aria-labelledby="history">
      <h2 id="history">History</h2>
      <Loaded from={found}>{([history, layers]) => <Steps history={history} layers={layers} />}</Loaded>
    </section>
  )
}

function Steps({ history, layers }: { readonly history: ImageHistory; readonly layers: ImageLayers }): VNode {
  if (history.steps.length === 0) return <p class="note">The image has no history.</p>
  return (
    <table class="table cards">
      <caption class="unseen">The steps that made the image, the latest first</caption>
      <thead>
        <tr>
          <th scope="col">Step</th>
          <th scope="col">What its layer does</th>
          <th scope="col" class="number">
            Size
          </th>
          <th scope="col">Created</th>
        </tr>
      </thead>
      <tbody>
        {history.steps.toReversed().map(({ created, createdBy, comment, layer }, index) => (
          <tr key={index}>
            <th scope="row">
              <code>{createdBy === '' ? comment || 'unknown' : createdBy}</code>
            </th>
            <td data-label="What its layer does">
              {layer === undefined ? 'only changes the config' : effectOf(layers.layers[layer.index])}
            </td>
            <td class="number" data-label="Size">
              {layer?.tarBytes === undefined ? '' : formatBytes(layer.tarBytes)}
            </td>
            <td data-label="Created">{ageOf(created)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  )
}

function effectOf(layer: ImageLayers['layers'][number] | undefined): string {
  if (layer === undefined) return ''
  const { addedFiles, replacedFiles, removedFiles, hidesBytes } = layer
  const parts = [
    addedFiles === 0 ? '' : `adds ${formatCount(addedFiles, 'file')}`,
    replacedFiles === 0 ? '' : `replaces ${replacedFiles.toLocaleString('en')}`,
    removedFiles === 0 ? '' : `removes ${removedFiles.toLocaleString('en')}`,
    hidesBytes === 0 ? '' : `hides ${formatBytes(hidesBytes)}`,
  ].filter((part) => part !== '')
  return parts.length === 0 ? 'changes no file' : parts.join(', ')
}

function ageOf(created: string | undefined): string {
  const atMs = Date.parse(created ?? '')
  return Number.isNaN(atMs) ? 'unknown' : formatAge(atMs)
}
