import type { ContainerInfo, PartialLayerInfo } from 'loamfs'
import type { VNode } from 'preact'
import { formatAge, formatBytes, formatCount } from '../format.ts'
import { Heading } from '../parts/heading.tsx'
import { ImageName } from '../parts/image-name.tsx'
import { MissingData } from '../parts/missing-data.tsx'
import { Empty, Loaded } from '../parts/states.tsx'
import { imageHref } from '../router.ts'
import { containers, partialLayers, usage } from '../state.ts'

/** The containers that have root filesystems. */
export function ContainersView(): VNode {
  return (
    <>
      <Heading title="Containers" />
      <Loaded from={containers}>{(all) => <ContainerList all={all} />}</Loaded>
    </>
  )
}

function ContainerList({ all }: { readonly all: readonly ContainerInfo[] }): VNode {
  if (all.length === 0) {
    return (
      <Empty title="No containers">
        Create a root filesystem: <code>loam provision --id web debian:12</code>
      </Empty>
    )
  }
  const bytes = new Map(
    usage.value.value?.containers.map(({ id, reference, bytes: own }) => [`${id} ${reference}`, own]),
  )
  return (
    <>
      <p class="note tools">{formatCount(all.length, 'container')}</p>
      <table class="table cards">
        <caption class="unseen">Containers and their root filesystems</caption>
        <thead>
          <tr>
            <th scope="col">Container</th>
            <th scope="col">Image</th>
            <th scope="col">Backend</th>
            <th scope="col">State</th>
            <th scope="col" class="number">
              Written
            </th>
            <th scope="col">Created</th>
          </tr>
        </thead>
        <tbody>
          {all.flatMap((container) =>
            container.rootfses.map((rootfs) => {
              const own = bytes.get(`${container.id} ${rootfs.reference}`)
              return (
                <tr key={rootfs.uuid}>
                  <th scope="row">
                    <span class="own-name">{container.id}</span>
                    <span class="sub">
                      <code>{rootfs.volumeTarget ?? rootfs.rootfsPath}</code>
                      {rootfs.volumeTarget !== undefined && <span class="badge">volume</span>}
                    </span>
                  </th>
                  <td data-label="Image">
                    <a href={imageHref(rootfs.imageDigest)}>
                      <ImageName name={rootfs.reference} />
                    </a>
                  </td>
                  <td data-label="Backend">
                    {rootfs.backend}
                    {rootfs.isReadOnly && ', read-only'}
                  </td>
                  <td data-label="State">
                    <State state={rootfs.state} isStanding={rootfs.isStanding} />
                    <MissingData partials={partialsOf(container, rootfs.layers)} />
                  </td>
                  <td class="number" data-label="Written">
                    {own === undefined ? '…' : formatBytes(own)}
                  </td>
                  <td data-label="Created">
                    <time dateTime={new Date(rootfs.createdAtMs).toISOString()}>
                      {formatAge(rootfs.createdAtMs)}
                    </time>
                  </td>
                </tr>
              )
            }),
          )}
        </tbody>
      </table>
    </>
  )
}

function partialsOf({ id }: ContainerInfo, layers: readonly string[]): PartialLayerInfo[] {
  const all = partialLayers.value.value ?? []
  return all.filter(({ diffId, containers: users }) => users.includes(id) && layers.includes(diffId))
}

function State({ state, isStanding }: { readonly state: string; readonly isStanding: boolean }): VNode {
  if (state !== 'ready') return <span class="badge">{state}</span>
  return isStanding ? (
    <span class="badge badge-good">ready</span>
  ) : (
    <span class="badge badge-bad" title="loam recover mounts it again">
      not mounted
    </span>
  )
}
