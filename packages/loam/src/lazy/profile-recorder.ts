import { toLoamError } from '../errors/index.ts'
import type { DiffId } from '../image/index.ts'
import type { MetadataStore } from '../metadata/index.ts'
import { report } from './report.ts'
import type { ServedLayer } from './served-layer.ts'

/** What a container reads at its start. */
const WINDOW_MS = 10_000

interface Recording {
  readonly spans: Set<number>
  readonly timer: NodeJS.Timeout
}

/** Records which spans of a layer are read in the first seconds, from the first read on, in their order. */
export class ProfileRecorder {
  readonly #metadata: MetadataStore
  readonly #windowMs: number
  /** Layers whose first read is still to come. */
  readonly #armed = new Set<DiffId>()
  readonly #recordings = new Map<DiffId, Recording>()

  constructor(metadata: MetadataStore, windowMs = WINDOW_MS) {
    this.#metadata = metadata
    this.#windowMs = windowMs
  }

  /** A container starts: the next read begins a recording. Returns the spans that were read at earlier starts, by the numbers of the layer's index. */
  begin({ diffId, source }: ServedLayer): readonly number[] {
    if (!this.#recordings.has(diffId)) this.#armed.add(diffId)
    const profile = this.#metadata.lazy.profileOf(diffId)
    return profile?.indexDigest === source.indexDigest ? profile.spans : []
  }

  /** Spans were read: the first, and the one after the last. */
  read(layer: ServedLayer, from: number, to: number): void {
    const { diffId } = layer
    if (this.#armed.delete(diffId)) {
      const timer = setTimeout(() => void this.#keep(layer), this.#windowMs).unref()
      this.#recordings.set(diffId, { spans: new Set(), timer })
    }
    const spans = this.#recordings.get(diffId)?.spans
    for (let span = from; span < to; span += 1) spans?.add(span)
  }

  /** A profile is only a help: what fails is reported. */
  async #keep(layer: ServedLayer): Promise<void> {
    try {
      await this.end(layer)
    } catch (error) {
      report(toLoamError(error, `record the profile of layer ${layer.diffId}`).message)
    }
  }

  /** Keeps what was recorded so far. */
  async end({ diffId, source }: ServedLayer): Promise<void> {
    this.#armed.delete(diffId)
    const recording = this.#recordings.get(diffId)
    if (recording === undefined) return
    this.#recordings.delete(diffId)
    clearTimeout(recording.timer)
    await this.#metadata.lazy.addProfile(diffId, {
      indexDigest: source.indexDigest,
      spans: [...recording.spans],
    })
  }
}
