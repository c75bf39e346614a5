import { useSignal } from '@preact/signals'
import type { ImageUsage } from 'loamfs'
import type { VNode } from 'preact'
import { useEffect } from 'preact/hooks'
import { api, type ApiError } from '../api.ts'
import { formatBytes, formatCount, imageName } from '../format.ts'
import { Modal } from '../parts/modal.tsx'
import { Failure, Loading } from '../parts/states.tsx'
import { toApiError } from '../resource.ts'
import { goTo, route } from '../router.ts'
import { announce, refreshStore, usage } from '../state.ts'
import { closeDialog } from './open-dialog.ts'

/** Shows what removing an image would free, and asks before it is removed. */
export function RemoveDialog({ digest }: { readonly digest: string }): VNode {
  const error = useSignal<ApiError | undefined>(undefined)
  const isRunning = useSignal(false)
  const isMeasured = useSignal(false)
  const mayPrune = useSignal(true)
  useEffect(() => {
    // What is shown may be from before; what is asked about is measured now.
    const measure = async () => {
      await usage.refresh()
      isMeasured.value = true
    }
    void measure()
  }, [])
  const image = usage.value.value?.images.find((each) => each.digest === digest)
  const remove = async () => {
    isRunning.value = true
    error.value = undefined
    try {
      await api.remove(digest)
      if (mayPrune.value) await api.prune({ dryRun: false, all: false, local: false })
      announce(`Removed ${image === undefined ? 'the image' : imageName(image)}.`)
      closeDialog()
      if (route.value.view === 'image') goTo('#/images')
      await refreshStore()
    } catch (thrown) {
      error.value = toApiError(thrown)
      isRunning.value = false
      await refreshStore()
    }
  }
  const isUsed = (image?.containers.length ?? 0) > 0
  return (
    <Modal
      title={image === undefined ? 'Remove the image' : `Remove ${imageName(image)}?`}
      onClose={closeDialog}
    >
      <div class="plan" aria-live="polite">
        {error.value !== undefined && <Failure error={error.value} />}
        {isMeasured.value ? <Costs image={image} /> : <Loading />}
      </div>
      {!isUsed && (
        <fieldset disabled={isRunning.value}>
          <legend class="unseen">How</legend>
          <label>
            <input
              type="checkbox"
              checked={mayPrune.value}
              onChange={() => (mayPrune.value = !mayPrune.value)}
            />
            <span>Free the space at once, by a prune of what nothing needs</span>
          </label>
        </fieldset>
      )}
      <div class="dialog-actions">
        <button type="button" onClick={closeDialog}>
          {isUsed ? 'Close' : 'Keep it'}
        </button>
        {!isUsed && (
          <button
            type="button"
            class="danger"
            disabled={!isMeasured.value || image === undefined || isRunning.value}
            onClick={() => void remove()}
          >
            {isRunning.value ? 'Removing…' : 'Remove the image'}
          </button>
        )}
      </div>
    </Modal>
  )
}

function Costs({ image }: { readonly image: ImageUsage | undefined }): VNode {
  if (image === undefined) return <p>The image is not in the store any more.</p>
  const { names, ownBytes, sharedBytes, containers } = image
  if (containers.length > 0) {
    return (
      <p>
        It is in use by {formatCount(containers.length, 'container')}: {containers.join(', ')}. Destroy{' '}
        {containers.length === 1 ? 'it' : 'them'} first, by <code>loam destroy {containers[0]}</code>.
      </p>
    )
  }
  return (
    <>
      <p>
        This frees <strong>{formatBytes(ownBytes)}</strong>
        {sharedBytes > 0 ? `; ${formatBytes(sharedBytes)} stay, which other images share.` : '.'}
      </p>
      {names.length > 1 && (
        <p>
          All its {names.length} names go with it: {names.join(', ')}.
        </p>
      )}
    </>
  )
}
