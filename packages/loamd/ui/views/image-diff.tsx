import { useSignal } from '@preact/signals'
import type { ContainerInfo, ListedImage, TreeDiff } from 'loamfs'
import type { VNode } from 'preact'
import { useEffect, useMemo } from 'preact/hooks'
import { api } from '../api.ts'
import { formatBytes, formatCount, imageName } from '../format.ts'
import { Loaded } from '../parts/states.tsx'
import { createResource } from '../resource.ts'
import { containers, images } from '../state.ts'

const MAX_SHOWN = 200

/** What differs between an image and another one, or a container, which is chosen here. */
export function ImageDiffView({ digest }: { readonly digest: string }): VNode {
  const chosen = useSignal('')
  useEffect(() => {
    chosen.value = ''
  }, [digest])
  const others = othersOf(digest, images.value.value ?? [], containers.value.value ?? [])
  if (others.length === 0) return <></>
  return (
    <section aria-labelledby="diff">
      <div class="section-head">
        <h2 id="diff">Differences</h2>
        <label class="choice">
          <span>Compare with </span>
          <select value={chosen.value} onChange={({ currentTarget }) => (chosen.value = currentTarget.value)}>
            <option value="">choose…</option>
            {others.map(({ value, label }) => (
              <option key={value} value={value}>
                {label}
              </option>
            ))}
          </select>
        </label>
      </div>
      {chosen.value !== '' && <Differences key={chosen.value} from={digest} to={chosen.value} />}
    </section>
  )
}

function othersOf(
  digest: string,
  allImages: readonly ListedImage[],
  allContainers: readonly ContainerInfo[],
): { readonly value: string; readonly label: string }[] {
  return [
    ...allContainers.map(({ id }) => ({ value: id, label: `container ${id}` })),
    ...allImages
      .filter((image) => image.digest !== digest)
      .map((image) => ({ value: image.digest as string, label: imageName(image) })),
  ]
}

function Differences({ from, to }: { readonly from: string; readonly to: string }): VNode {
  const found = useMemo(() => createResource(async () => api.diff(from, to)), [from, to])
  useEffect(() => {
    void found.refresh()
  }, [from, to])
  return <Loaded from={found}>{(diff) => <Changes diff={diff} />}</Loaded>
}

function Changes({ diff }: { readonly diff: TreeDiff }): VNode {
  const { added, removed, changed, changes } = diff
  const sum = added + removed + changed
  if (sum === 0) return <p class="note">Both have the same files.</p>
  return (
    <>
      <p class="note" role="status">
        {formatCount(sum, 'difference')}: {added} added, {removed} removed, {changed} changed
        {sum > MAX_SHOWN && `; the first ${MAX_SHOWN} are shown`}
      </p>
      <table class="table">
        <caption class="unseen">Paths that differ</caption>
        <thead>
          <tr>
            <th scope="col">Path</th>
            <th scope="col">What</th>
            <th scope="col" class="number">
              Size
            </th>
          </tr>
        </thead>
        <tbody>
          {changes.slice(0, MAX_SHOWN).map(({ kind, path, differences, beforeBytes, afterBytes }) => (
            <tr key={path}>
              <th scope="row">
                <code>{path}</code>
              </th>
              <td>{kind === 'changed' ? differences.join(', ') : kind}</td>
              <td class="number">
                {beforeBytes === afterBytes || kind === 'added'
                  ? formatBytes(afterBytes)
                  : kind === 'removed'
                    ? formatBytes(beforeBytes)
                    : `${formatBytes(beforeBytes)} → ${formatBytes(afterBytes)}`}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  )
}
