import { useSignal } from '@preact/signals'
import type { ImageContents, ImageInspection } from 'loamfs'
import type { VNode } from 'preact'
import { useEffect, useMemo } from 'preact/hooks'
import { api } from '../api.ts'
import { openDialog } from '../dialogs/open-dialog.ts'
import { formatAge, formatBytes, formatCount, formatShare, imageName } from '../format.ts'
import { Heading } from '../parts/heading.tsx'
import { Loaded } from '../parts/states.tsx'
import { createResource } from '../resource.ts'
import { ContentsTree } from './contents-tree.tsx'
import { historyOf, runsOf } from './image-config.ts'
import { ImageDiffView } from './image-diff.tsx'
import { ImageHistoryView } from './image-history.tsx'
import { LayerList } from './layer-list.tsx'

/** One image: what it runs, its layers, and what is in them. */
export function ImageView({ digest }: { readonly digest: string }): VNode {
  const inspection = useMemo(() => createResource(async () => api.inspect(digest)), [digest])
  const root = useMemo(() => createResource(async () => api.contents(digest, '/')), [digest])
  useEffect(() => {
    void inspection.refresh()
    void root.refresh()
  }, [digest])
  const image = inspection.value.value?.image
  return (
    <>
      <nav class="back" aria-label="Breadcrumb">
        <a href="#/images">Images</a>
      </nav>
      <Heading title={image === undefined ? 'Image' : imageName(image)}>
        <button type="button" onClick={() => openDialog({ kind: 'remove', digest })}>
          Remove…
        </button>
      </Heading>
      <Loaded from={inspection}>{(found) => <Facts inspection={found} />}</Loaded>
      <Loaded from={root}>
        {(contents) => <Contents contents={contents} config={inspection.value.value?.config} />}
      </Loaded>
      <ImageHistoryView digest={digest} />
      <ImageDiffView digest={digest} />
    </>
  )
}

function Facts({ inspection }: { readonly inspection: ImageInspection }): VNode {
  const { image, config, decisions } = inspection
  const facts: readonly Fact[] = [
    { name: 'Names', value: image.names.length === 0 ? 'none' : image.names.join('\n'), isWide: true },
    { name: 'Digest', value: <code>{image.digest}</code>, isWide: true },
    { name: 'Platform', value: image.platform },
    ...(image.created === undefined
      ? []
      : [{ name: 'Created', value: formatAge(Date.parse(image.created)) }]),
    { name: 'Pulled', value: formatAge(image.pulledAtMs) },
    ...runsOf(config),
    ...(decisions.length === 0
      ? []
      : [{ name: 'Allowed by', value: decisions.map(({ policy, signer }) => signer ?? policy).join(', ') }]),
  ]
  return (
    <dl class="facts">
      {facts.map(({ name, value, isWide }) => (
        <div key={name} class={isWide === true ? 'wide' : ''}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  )
}

interface Fact {
  readonly name: string
  readonly value: string | VNode
  readonly isWide?: boolean
}

function Contents({
  contents,
  config,
}: {
  readonly contents: ImageContents
  readonly config: unknown
}): VNode {
  const chosen = useSignal<number | undefined>(undefined)
  const { layers, hidden, digest } = contents
  const hiddenBytes = layers.reduce((sum, layer) => sum + layer.hiddenBytes, 0)
  const allBytes = layers.reduce((sum, layer) => sum + layer.bytes, 0)
  return (
    <>
      <section aria-labelledby="layers">
        <div class="section-head">
          <h2 id="layers">Layers</h2>
          <p class="note">
            {hiddenBytes === 0
              ? 'No layer hides anything of the layers below it.'
              : `${formatBytes(hiddenBytes)} wasted (${formatShare(hiddenBytes, allBytes)}): later layers hide it.`}
          </p>
        </div>
        <LayerList
          layers={layers}
          history={historyOf(config, layers.length)}
          chosen={chosen.value}
          choose={(layer) => (chosen.value = layer)}
        />
      </section>
      <section aria-labelledby="contents">
        <div class="section-head">
          <h2 id="contents">
            {chosen.value === undefined ? 'What containers see' : `What is in layer ${chosen.value + 1}`}
          </h2>
          <p class="note">{describeShare(contents, chosen.value)}</p>
        </div>
        <ContentsTree key={`${digest} ${chosen.value}`} image={digest} layer={chosen.value} />
      </section>
      {hidden.length > 0 && <Hidden hidden={hidden} />}
    </>
  )
}

function describeShare({ files, bytes, layers }: ImageContents, layer: number | undefined): string {
  const share = layer === undefined ? undefined : layers[layer]
  const of = share ?? { files, bytes }
  return `${formatCount(of.files, 'file')}, ${formatBytes(of.bytes)}`
}

function Hidden({ hidden }: { readonly hidden: ImageContents['hidden'] }): VNode {
  return (
    <section aria-labelledby="wasted">
      <h2 id="wasted">Wasted</h2>
      <p class="note">
        Files that a layer has and a later one replaces or removes: stored and transferred, and seen by no
        container.
      </p>
      <table class="table">
        <caption class="unseen">The largest files that later layers hide</caption>
        <thead>
          <tr>
            <th scope="col">File</th>
            <th scope="col" class="number">
              Layer
            </th>
            <th scope="col" class="number">
              Size
            </th>
          </tr>
        </thead>
        <tbody>
          {hidden.slice(0, 20).map(({ path, layer, bytes }) => (
            <tr key={`${layer} ${path}`}>
              <th scope="row">
                <code>{path}</code>
              </th>
              <td class="number">{layer + 1}</td>
              <td class="number">{formatBytes(bytes)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {hidden.length > 20 && (
        <p class="note">and {formatCount(hidden.length - 20, 'more file')}, all of them smaller</p>
      )}
    </section>
  )
}
