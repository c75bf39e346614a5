import { useSignal } from '@preact/signals'
import type { ImageUsage, ListedImage } from 'loamfs'
import type { VNode } from 'preact'
import { openDialog } from '../dialogs/open-dialog.ts'
import { formatAge, formatBytes, formatCount, imageName, shortDigest } from '../format.ts'
import { Bar } from '../parts/bar.tsx'
import { Heading } from '../parts/heading.tsx'
import { ImageName } from '../parts/image-name.tsx'
import { MissingData } from '../parts/missing-data.tsx'
import { Empty, Loaded } from '../parts/states.tsx'
import { imageHref } from '../router.ts'
import { images, partialLayers, usage } from '../state.ts'

/** The images of the store, with what each of them has alone and what it shares. */
export function ImagesView(): VNode {
  return (
    <>
      <Heading title="Images" />
      <Loaded from={images}>{(all) => <ImageList all={all} />}</Loaded>
    </>
  )
}

function ImageList({ all }: { readonly all: readonly ListedImage[] }): VNode {
  const wanted = useSignal('')
  const usages = new Map(usage.value.value?.images.map((each) => [each.digest, each]))
  const largest = Math.max(0, ...[...usages.values()].map(({ bytes }) => bytes))
  const text = wanted.value.trim().toLowerCase()
  const shown = all
    .filter(({ names, digest }) => [...names, digest].some((name) => name.toLowerCase().includes(text)))
    .toSorted((a, b) => imageName(a).localeCompare(imageName(b)))
  if (all.length === 0) {
    return (
      <Empty title="No images yet">
        Pull one: <code>loam pull debian:12</code>
      </Empty>
    )
  }
  return (
    <>
      <div class="tools">
        <label class="search">
          <span class="unseen">Find an image</span>
          <input
            type="search"
            placeholder="Find by name or digest"
            value={wanted.value}
            onInput={({ currentTarget }) => (wanted.value = currentTarget.value)}
          />
        </label>
        <p class="note" role="status">
          {text === ''
            ? formatCount(all.length, 'image')
            : `${shown.length} of ${formatCount(all.length, 'image')}`}
        </p>
        <p class="legend note" aria-hidden="true">
          <span class="dot tone-own" /> its own <span class="dot tone-shared" /> shared
        </p>
      </div>
      <table class="table cards">
        <caption class="unseen">Images of the store</caption>
        <thead>
          <tr>
            <th scope="col">Image</th>
            <th scope="col">Size</th>
            <th scope="col" class="number">
              Own
            </th>
            <th scope="col" class="number">
              Shared
            </th>
            <th scope="col" class="number">
              Containers
            </th>
            <th scope="col">Pulled</th>
            <th scope="col">
              <span class="unseen">Actions</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {shown.map((image) => (
            <ImageRow key={image.digest} image={image} usage={usages.get(image.digest)} largest={largest} />
          ))}
        </tbody>
      </table>
    </>
  )
}

function ImageRow({
  image,
  usage: used,
  largest,
}: {
  readonly image: ListedImage
  readonly usage: ImageUsage | undefined
  readonly largest: number
}): VNode {
  const name = imageName(image)
  const partials = (partialLayers.value.value ?? []).filter((each) => each.images.includes(image.digest))
  const sizeOf = (bytes: number | undefined) => (bytes === undefined ? '…' : formatBytes(bytes))
  return (
    <tr>
      <th scope="row">
        <a href={imageHref(image.digest)}>
          <ImageName name={name} />
        </a>
        {image.names.length > 1 && (
          <span class="note"> and {formatCount(image.names.length - 1, 'more name')}</span>
        )}
        <span class="sub">
          <code>{shortDigest(image.digest)}</code> {image.platform}
          {image.isLocal && <span class="badge">local</span>}
          {image.damage !== undefined && <span class="badge badge-bad">damaged</span>}
          <MissingData partials={partials} />
        </span>
      </th>
      <td data-label="Size">
        <span class="measure">
          <Bar
            whole={largest}
            parts={[
              { bytes: used?.ownBytes ?? 0, tone: 'tone-own' },
              { bytes: used?.sharedBytes ?? 0, tone: 'tone-shared' },
            ]}
          />
          <span class="number">{sizeOf(used?.bytes)}</span>
        </span>
      </td>
      <td class="number" data-label="Own">
        {sizeOf(used?.ownBytes)}
      </td>
      <td class="number" data-label="Shared">
        {sizeOf(used?.sharedBytes)}
      </td>
      <td class="number" data-label="Containers">
        {used?.containers.length ?? '…'}
      </td>
      <td data-label="Pulled">
        <time dateTime={new Date(image.pulledAtMs).toISOString()}>{formatAge(image.pulledAtMs)}</time>
      </td>
      <td class="actions">
        <button
          type="button"
          class="quiet"
          aria-label={`Remove ${name}…`}
          onClick={() => openDialog({ kind: 'remove', digest: image.digest })}
        >
          Remove…
        </button>
      </td>
    </tr>
  )
}
