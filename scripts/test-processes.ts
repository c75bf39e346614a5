// Which processes run the files of a tier.
import { readFileSync } from 'node:fs'

/** A process of its own for each file takes a second to start: half of the time of the unit tests. */
const SHARED_PROCESSES = 3
/**
 * Files of the unit tier that cannot share a process with others: they replace the file system or the clock before anything is loaded, or look at the
 * processes of the whole run.
 */
export const OWN_PROCESS: readonly string[] = [
  'packages/loam/src/metadata/log.test.ts',
  'packages/loam/test/simulation/simulation.test.ts',
  'scripts/leftovers.test.ts',
]

/** Files that one call of `node --test` runs. */
export interface TestCall {
  readonly files: readonly string[]
  /** Whether they run one after the other in one process. Otherwise each has its own. */
  readonly isShared: boolean
}

/** Divides the files of the unit tier. */
export function sharedCalls(files: readonly string[]): TestCall[] {
  const own = files.filter((file) => OWN_PROCESS.includes(file) || hasHooks(file))
  const shared = files.filter((file) => !own.includes(file)).toSorted()
  const groups = Array.from({ length: SHARED_PROCESSES }, (_value, group) => ({
    files: shared.filter((_file, index) => index % SHARED_PROCESSES === group),
    isShared: true,
  }))
  return [...groups, { files: own, isShared: false }].filter((call) => call.files.length > 0)
}

/** Hooks outside of a suite run for all tests of a process. */
function hasHooks(file: string): boolean {
  return /^(?:before|after)(?:Each)?\(/m.test(readFileSync(file, 'utf8'))
}
