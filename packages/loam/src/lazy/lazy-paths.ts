import { join } from 'node:path'

/** The files of the handler of one store, below its state directory: they end with the boot, as the mounts do. */
export interface LazyPaths {
  readonly folder: string
  /** Held by the handler. */
  readonly lock: string
  readonly socket: string
  /** The settings of the process that started the handler, for later starts. Without secrets. */
  readonly configuration: string
  /** The process that keeps the descriptors, and what they are. */
  readonly holder: string
  /** Reads that wait for an answer. */
  readonly journal: string
  /** There while the handler rests after a failure. */
  readonly rest: string
  /** What the handler has to report: as lines. */
  readonly log: string
}

/** Returns the paths below a state directory. */
export function lazyPaths(state: string): LazyPaths {
  const folder = join(state, 'lazy')
  return {
    folder,
    lock: join(folder, 'lock'),
    socket: join(folder, 'lazyd.sock'),
    configuration: join(folder, 'configuration.json'),
    holder: join(folder, 'holder.json'),
    journal: join(folder, 'journal'),
    rest: join(folder, 'rest'),
    log: join(folder, 'log'),
  }
}
