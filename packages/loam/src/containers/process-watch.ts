import { findStartTime, type ProcessIdentity } from '../linux/index.ts'
import type { RuntimePaths } from './oci-runtime.ts'
import { readProcess } from './process-state.ts'

/** Watches the process of a container. The OCI runtime is asked once: as long as the process exists, it is active. */
export class ProcessWatch {
  readonly #paths: RuntimePaths
  readonly #id: string
  #process: ProcessIdentity | undefined

  constructor(paths: RuntimePaths, id: string) {
    this.#paths = paths
    this.#id = id
  }

  /** Returns whether the process runs, is paused or is being started. @throws RUNTIME_FAILED */
  async isActive(): Promise<boolean> {
    const known = this.#process
    if (known !== undefined && findStartTime(known.pid) === known.startTime) return true
    const { status, pid } = await readProcess(this.#paths, this.#id)
    const startTime = pid === undefined ? undefined : findStartTime(pid)
    this.#process = pid === undefined || startTime === undefined ? undefined : { pid, startTime }
    return status !== 'exited' && status !== 'none'
  }
}
