import { type Signal, useSignal } from '@preact/signals'
import type { PruneReport } from 'loamfs'
import type { VNode } from 'preact'
import { useEffect } from 'preact/hooks'
import { api, type ApiError } from '../api.ts'
import { formatBytes, formatCount, imageName } from '../format.ts'
import { Modal } from '../parts/modal.tsx'
import { Failure, Loading } from '../parts/states.tsx'
import { toApiError } from '../resource.ts'
import { announce, refreshStore, usage } from '../state.ts'
import { closeDialog } from './open-dialog.ts'

const LISTED = 6

/** Shows what a prune would remove, and asks before it does. */
export function PruneDialog(): VNode {
  const all = useSignal(false)
  const local = useSignal(false)
  const plan = useSignal<PruneReport | undefined>(undefined)
  const error = useSignal<ApiError | undefined>(undefined)
  const isRunning = useSignal(false)
  const request = { all: all.value, local: local.value }
  useEffect(() => {
    let isCurrent = true
    plan.value = undefined
    error.value = undefined
    const load = async () => {
      try {
        const found = await api.prune({ ...request, dryRun: true })
        if (isCurrent) plan.value = found
      } catch (thrown) {
        if (isCurrent) error.value = toApiError(thrown)
      }
    }
    void load()
    return () => {
      isCurrent = false
    }
  }, [request.all, request.local])
  const prune = async () => {
    isRunning.value = true
    error.value = undefined
    try {
      const done = await api.prune({ ...request, dryRun: false })
      announce(`Pruned: ${describe(done)} removed.`)
      closeDialog()
      await refreshStore()
    } catch (thrown) {
      error.value = toApiError(thrown)
      isRunning.value = false
    }
  }
  const isNothing = plan.value !== undefined && countOf(plan.value) === 0
  return (
    <Modal title="Prune the store" onClose={closeDialog}>
      <Scope all={all} local={local} isDisabled={isRunning.value} />
      <div class="plan" aria-live="polite">
        {error.value !== undefined ? (
          <Failure error={error.value} />
        ) : plan.value === undefined ? (
          <Loading />
        ) : (
          <Plan report={plan.value} />
        )}
      </div>
      <div class="dialog-actions">
        <button type="button" onClick={closeDialog}>
          {isNothing ? 'Close' : 'Keep everything'}
        </button>
        {!isNothing && (
          <button
            type="button"
            class="danger"
            disabled={plan.value === undefined || isRunning.value}
            onClick={() => void prune()}
          >
            {plan.value === undefined
              ? 'Remove'
              : isRunning.value
                ? 'Removing…'
                : `Remove, and free ${formatBytes(freedBytes(plan.value))}`}
          </button>
        )}
      </div>
    </Modal>
  )
}

function Scope({
  all,
  local,
  isDisabled,
}: {
  readonly all: Signal<boolean>
  readonly local: Signal<boolean>
  readonly isDisabled: boolean
}): VNode {
  return (
    <fieldset disabled={isDisabled}>
      <legend>
        A prune removes layers that nothing needs, and images without a name that no container uses.
      </legend>
      <label>
        <input type="checkbox" checked={all.value} onChange={() => (all.value = !all.value)} />
        <span>Also images with a name, if no container uses them</span>
      </label>
      <label>
        <input type="checkbox" checked={local.value} onChange={() => (local.value = !local.value)} />
        <span>Also local images, which no registry is known to have</span>
      </label>
    </fieldset>
  )
}

function Plan({ report }: { readonly report: PruneReport }): VNode {
  if (countOf(report) === 0) return <p>There is nothing to remove.</p>
  const { images } = report
  return (
    <>
      <p>
        This removes <strong>{describe(report)}</strong> and frees about{' '}
        <strong>{formatBytes(freedBytes(report))}</strong>.
      </p>
      {images.length > 0 && (
        <ul class="plan-list">
          {images.slice(0, LISTED).map((image) => (
            <li key={image.digest}>{imageName(image)}</li>
          ))}
          {images.length > LISTED && <li>and {formatCount(images.length - LISTED, 'more image')}</li>}
        </ul>
      )}
      <p class="note">Removed images can be pulled again. What is local is gone for good.</p>
    </>
  )
}

function describe({ images, layers }: PruneReport): string {
  return `${formatCount(images.length, 'image')} and ${formatCount(layers.length, 'layer')}`
}

function countOf({ images, layers, blobs }: PruneReport): number {
  return images.length + layers.length + blobs.length
}

/** The layers with what was built from them, where it is known; else their tars. */
function freedBytes({ layers }: PruneReport): number {
  const known = new Map(
    usage.value.value?.layers.map(({ diffId, bytes, folderBytes }) => [String(diffId), bytes + folderBytes]),
  )
  return layers.reduce((sum, { diffId, tarBytes }) => sum + (known.get(diffId) ?? tarBytes), 0)
}
