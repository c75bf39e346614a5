import { basename } from 'node:path'
import type { ExportOptions } from '../exports/index.ts'
import type { ImageOptions } from '../images/index.ts'

/** Reports how much of an output is written, as events of work. */
export class OutputProgress {
  readonly #options: ExportOptions & ImageOptions
  #doneBytes: number | undefined

  constructor(options: ExportOptions & ImageOptions) {
    this.#options = options
  }

  readonly onBytes = (doneBytes: number, totalBytes: number | undefined): void => {
    this.#doneBytes = doneBytes
    this.#tell(doneBytes, totalBytes, false)
  }

  /** All is written. Nothing is reported of an output that was written at once. */
  finish(): void {
    if (this.#doneBytes !== undefined) this.#tell(this.#doneBytes, this.#doneBytes, true)
  }

  #tell(doneBytes: number, totalBytes: number | undefined, isDone: boolean): void {
    const { output, onEvent } = this.#options
    const what = output === '-' ? 'write' : `write ${basename(output)}`
    onEvent?.({ kind: 'work', what, doneBytes, totalBytes, isDone })
  }
}
