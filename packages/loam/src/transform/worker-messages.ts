import type { PlainError } from '../errors/index.ts'
import type { TaskResult, LayerTask } from './layer-task.ts'

/** Messages of the pool to a worker. */
export type ToWorker =
  | { readonly kind: 'task'; readonly task: LayerTask; readonly canceled: SharedArrayBuffer }
  | { readonly kind: 'chunk'; readonly bytes: Uint8Array }
  | { readonly kind: 'end'; readonly error?: PlainError }

/** Messages of a worker to the pool. */
export type FromWorker =
  | { readonly kind: 'consumed'; readonly bytes: number }
  | { readonly kind: 'done'; readonly result: TaskResult<LayerTask> }
  | { readonly kind: 'failed'; readonly error: PlainError }
