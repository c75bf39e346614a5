import type { ActivityEvent, PullEvent } from 'loamfs'

/** Period over which the speed is measured. */
const WINDOW_MS = 4000

/** One layer of a pull. */
interface PullLayer {
  readonly state: 'waiting' | 'exists' | 'fetching' | 'done' | 'lazy'
  readonly receivedBytes: number
  readonly totalBytes: number
}

/** A pull in progress. */
export interface Pull {
  readonly id: number
  readonly name: string
  readonly startMs: number
  /** By their places in the image; undefined for those without an event so far. */
  readonly layers: readonly (PullLayer | undefined)[]
  /** The latest note: that a request to a registry is retried, for example. */
  readonly note: string | undefined
  /** Received bytes at several times, the oldest first. */
  readonly samples: readonly { readonly timeMs: number; readonly receivedBytes: number }[]
}

/** Progress of a pull, as numbers. */
export interface PullProgress {
  /** Fraction from 0 to 1. */
  readonly done: number
  readonly layersDone: number
  readonly receivedBytes: number
  readonly bytesPerSecond: number
}

/** Returns the pulls in progress after an event. An event of a pull whose beginning was missed begins it. */
export function applyToPulls(pulls: readonly Pull[], event: ActivityEvent): readonly Pull[] {
  const { id, timeMs } = event
  if (event.kind === 'end') return pulls.filter((pull) => pull.id !== id)
  if (event.kind === 'start') return pulls
  const known = pulls.find((pull) => pull.id === id)
  const pull = known ?? { id, name: '', startMs: timeMs, layers: [], note: undefined, samples: [] }
  const next = applyProgress(pull, event.progress as PullEvent, timeMs)
  if (next === undefined) return pulls
  return known === undefined ? [...pulls, next] : pulls.map((one) => (one === known ? next : one))
}

/** Returns undefined for an event that is not progress of a pull. */
function applyProgress(pull: Pull, progress: PullEvent, timeMs: number): Pull | undefined {
  switch (progress.kind) {
    case 'resolving':
    case 'resolved':
      return { ...pull, name: progress.name, note: undefined }
    case 'retry':
      return { ...pull, note: `${progress.attempted}: ${progress.reason}. Trying again.` }
    case 'note':
      return { ...pull, note: progress.text }
    case 'eager':
      return { ...pull, note: `Pulled eagerly: ${progress.why}` }
    case 'layer': {
      const layers = Array.from({ length: progress.count }, (_, index) => pull.layers[index])
      layers[progress.index] = toLayer(progress.progress, pull.layers[progress.index])
      return {
        ...pull,
        layers,
        note: undefined,
        samples: addSample(pull.samples, { timeMs, receivedBytes: received(layers) }),
      }
    }
    case 'file':
    case 'layers':
    case 'work':
    case 'other-platform':
    default:
      return undefined
  }
}

function toLayer(
  progress: Extract<PullEvent, { kind: 'layer' }>['progress'],
  before: PullLayer | undefined,
): PullLayer {
  if (progress.state === 'fetching') return progress
  if (progress.state === 'lazy') return { ...progress, receivedBytes: 0 }
  const totalBytes = before?.totalBytes ?? 0
  return {
    state: progress.state,
    totalBytes,
    receivedBytes: progress.state === 'done' ? totalBytes : (before?.receivedBytes ?? 0),
  }
}

function addSample(samples: Pull['samples'], sample: Pull['samples'][number]): Pull['samples'] {
  const recent = samples.filter(({ timeMs }) => timeMs > sample.timeMs - WINDOW_MS)
  return [...recent, sample]
}

function received(layers: Pull['layers']): number {
  return layers.reduce((sum, layer) => sum + (layer?.receivedBytes ?? 0), 0)
}

/** Returns the progress of a pull at a time. Each layer counts the same, since the sizes of waiting ones are unknown. */
export function progressOf({ layers, samples }: Pull, nowMs: number): PullProgress {
  const parts = layers.map((layer) => {
    if (layer?.state === 'done' || layer?.state === 'exists' || layer?.state === 'lazy') return 1
    return layer?.state === 'fetching' && layer.totalBytes > 0 ? layer.receivedBytes / layer.totalBytes : 0
  })
  const endMs = Math.max(nowMs, samples.at(-1)?.timeMs ?? 0)
  const first = samples.find(({ timeMs }) => timeMs > endMs - WINDOW_MS)
  const last = samples.at(-1)
  const passedMs = first === undefined ? 0 : endMs - first.timeMs
  const bytes = first === undefined ? 0 : (last?.receivedBytes ?? 0) - first.receivedBytes
  return {
    done: parts.length === 0 ? 0 : parts.reduce((sum, part) => sum + part, 0) / parts.length,
    layersDone: parts.filter((part) => part === 1).length,
    receivedBytes: last?.receivedBytes ?? 0,
    bytesPerSecond: passedMs > 0 ? (1000 * bytes) / passedMs : 0,
  }
}
