import { LoamError } from '../errors/index.ts'
import type { IdMapping } from '../linux/index.ts'
import type { Backend, BackendName, LayerStack, Probe } from './backend.ts'

/** What a backend has to create. */
export interface BackendTask {
  /** Undefined if the image is not known yet. */
  readonly stack?: LayerStack | undefined
  /** Undefined for no user namespace. */
  readonly idMapping?: IdMapping | undefined
  /** Undefined for no limit. */
  readonly sizeBytes?: number | undefined
  /** Whether processes outside of Loam's user namespace use it: they do not see its mounts. */
  readonly isUsedOutside?: boolean | undefined
}

/** The backends that are tried, in this order, when none is requested. */
const AUTOMATIC: readonly BackendName[] = ['erofs', 'overlay', 'copy']

/**
 * Returns the requested backend, or the first of the automatic ones that works on this machine, for this image if one
 * is given. @throws BACKEND_UNKNOWN, and BACKEND_UNSUPPORTED with the reason
 */
export function chooseBackend(
  backends: readonly Backend[],
  asked: string | undefined,
  task: BackendTask,
): Backend {
  const { stack, idMapping, sizeBytes, isUsedOutside = false } = task
  const check = (backend: Backend): Probe => {
    if (idMapping !== undefined && !backend.mapsIds)
      return { isSupported: false, reason: 'it cannot map IDs for a user namespace' }
    if (sizeBytes !== undefined && !backend.limitsSize)
      return { isSupported: false, reason: 'it has no writable layer whose size can be limited' }
    const probe = backend.probe()
    return probe.isSupported && stack !== undefined ? backend.accepts(stack) : probe
  }
  if (asked !== undefined) {
    const backend = backends.find(({ name }) => name === asked)
    if (backend === undefined) {
      throw new LoamError('BACKEND_UNKNOWN', `choose backend ${JSON.stringify(asked)}: no such backend`, {
        hint: `Backends: ${backends.map(({ name }) => name).join(', ')}.`,
      })
    }
    const verdict = check(backend)
    if (verdict.isSupported) return backend
    throw new LoamError('BACKEND_UNSUPPORTED', `choose backend ${asked}: ${verdict.reason}`, {
      hint: '`loam doctor` says which backends work on this machine; without --backend Loam chooses one that works.',
    })
  }
  const reasons: string[] = []
  for (const name of AUTOMATIC) {
    const backend = backends.find((candidate) => candidate.name === name)
    if (backend === undefined) continue
    if (isUsedOutside && backend.name !== 'copy') {
      reasons.push(`${name}: its mounts are visible only in Loam's user namespace`)
      continue
    }
    const verdict = check(backend)
    if (verdict.isSupported) return backend
    reasons.push(`${name}: ${verdict.reason}`)
  }
  throw new LoamError('BACKEND_UNSUPPORTED', `choose a backend: none works (${reasons.join('; ')})`)
}
