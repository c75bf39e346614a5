import { useSignal } from '@preact/signals'
import type { StoreUsage } from 'loamfs'
import type { VNode } from 'preact'
import { openDialog } from '../dialogs/open-dialog.ts'
import { formatBytes, formatCount, formatShare } from '../format.ts'
import { Heading } from '../parts/heading.tsx'
import { ImageName } from '../parts/image-name.tsx'
import { Empty, Loaded } from '../parts/states.tsx'
import { Treemap } from '../parts/treemap.tsx'
import { imageHref } from '../router.ts'
import { usage } from '../state.ts'
import { partsOf, type StoragePart, toTiles } from './storage-parts.ts'

const PICTURE_PX = 420

/** What is stored and what it costs. */
export function StorageView(): VNode {
  return (
    <>
      <Heading title="Storage">
        <button type="button" onClick={() => openDialog({ kind: 'prune' })}>
          Prune…
        </button>
      </Heading>
      <Loaded from={usage}>{(all) => <Storage all={all} />}</Loaded>
    </>
  )
}

function Storage({ all }: { readonly all: StoreUsage }): VNode {
  const isTable = useSignal(false)
  const parts = partsOf(all)
  const sharedBytes = parts.find(({ kind }) => kind === 'shared')?.bytes ?? 0
  return (
    <>
      <dl class="figures">
        <Figure name="On disk" value={formatBytes(all.totalBytes)} note="everything below the store's root" />
        <Figure
          name="Images"
          value={String(all.images.length)}
          note={`${formatCount(all.layers.length, 'layer')}, ${formatBytes(sharedBytes)} shared`}
        />
        <Figure
          name="Containers"
          value={String(all.containers.length)}
          note={`${formatBytes(sum(all.containers))} of their own`}
        />
        <Figure
          name="Not in use"
          value={formatBytes(all.unusedBytes)}
          note={all.unusedBytes > 0 ? 'a prune frees it' : 'nothing to prune'}
        />
      </dl>
      <section aria-labelledby="where">
        <div class="section-head">
          <h2 id="where">Where the space is</h2>
          <div class="switch" role="group" aria-label="Show as">
            <button type="button" aria-pressed={!isTable.value} onClick={() => (isTable.value = false)}>
              Picture
            </button>
            <button type="button" aria-pressed={isTable.value} onClick={() => (isTable.value = true)}>
              Table
            </button>
          </div>
        </div>
        {all.images.length === 0 && all.layers.length === 0 ? (
          <Empty title="The store is empty">
            Pull an image to fill it: <code>loam pull debian:12</code>
          </Empty>
        ) : isTable.value ? (
          <PartsTable parts={parts} totalBytes={all.totalBytes} />
        ) : (
          <figure>
            <figcaption class="note">
              The area is the space on disk. Each image has what it alone uses; layers that several images
              share are stored once and stand by themselves.
            </figcaption>
            <Treemap tiles={toTiles(parts)} height={PICTURE_PX} />
            {/* The same for those who do not see the picture. */}
            <div class="unseen">
              <PartsTable parts={parts} totalBytes={all.totalBytes} />
            </div>
          </figure>
        )}
      </section>
    </>
  )
}

function PartsTable({
  parts,
  totalBytes,
}: {
  readonly parts: readonly StoragePart[]
  readonly totalBytes: number
}): VNode {
  return (
    <table class="table">
      <caption class="unseen">Space on disk by image, largest first</caption>
      <thead>
        <tr>
          <th scope="col">What</th>
          <th scope="col" class="number">
            Space
          </th>
          <th scope="col" class="number">
            Of the store
          </th>
        </tr>
      </thead>
      <tbody>
        {parts.map((part) => (
          <tr key={part.key}>
            <th scope="row">
              <span class={`dot ${part.tone}`} aria-hidden="true" />
              {part.digest === undefined ? (
                <span class="own-name">{part.name}</span>
              ) : (
                <a href={imageHref(part.digest)}>
                  <ImageName name={part.name} />
                </a>
              )}
              {part.note !== undefined && <span class="note"> {part.note}</span>}
            </th>
            <td class="number">{formatBytes(part.bytes)}</td>
            <td class="number">{formatShare(part.bytes, totalBytes)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  )
}

function Figure({
  name,
  value,
  note,
}: {
  readonly name: string
  readonly value: string
  readonly note: string
}): VNode {
  return (
    <div class="figure">
      <dt>{name}</dt>
      <dd>
        <span class="figure-value">{value}</span>
        <span class="note">{note}</span>
      </dd>
    </div>
  )
}

function sum(all: readonly { readonly bytes: number }[]): number {
  return all.reduce((total, { bytes }) => total + bytes, 0)
}
