import type { ComponentChildren, VNode } from 'preact'
import type { ApiError } from '../api.ts'
import type { Resource } from '../resource.ts'

/** Shows a resource when it is there, and else that it is loaded or why it is not. */
export function Loaded<Value>({
  from,
  children,
}: {
  readonly from: Resource<Value>
  readonly children: (value: Value) => ComponentChildren
}): VNode {
  const { value, error } = from
  return (
    <>
      {error.value !== undefined && <Failure error={error.value} retry={from.refresh} />}
      {value.value === undefined ? error.value === undefined && <Loading /> : children(value.value)}
    </>
  )
}

/** Shows that something is coming. */
export function Loading(): VNode {
  return (
    <p class="loading" role="status">
      Loading…
    </p>
  )
}

/** Shows what went wrong and what to do. */
export function Failure({
  error,
  retry,
}: {
  readonly error: ApiError
  readonly retry?: (() => Promise<void>) | undefined
}): VNode {
  return (
    <div class="failure" role="alert">
      <p>
        <strong>{error.message}</strong>
      </p>
      {error.hint !== undefined && <p>{error.hint}</p>}
      {retry !== undefined && (
        <button type="button" onClick={() => void retry()}>
          Try again
        </button>
      )}
    </div>
  )
}

/** Shows that there is nothing, and how that changes. */
export function Empty({
  title,
  children,
}: {
  readonly title: string
  readonly children: ComponentChildren
}): VNode {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      <p>{children}</p>
    </div>
  )
}
