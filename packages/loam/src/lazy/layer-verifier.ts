import { toLoamError } from '../errors/index.ts'
import { splitDigest } from '../image/index.ts'
import { newArtifactRecord } from '../layers/index.ts'
import type { HandlerOptions } from './handler-options.ts'
import type { ProfileRecorder } from './profile-recorder.ts'
import { report } from './report.ts'
import { claimAll, dropAll, type ServedLayer } from './served-layer.ts'
import type { ServedEntry, ServedLayers } from './served-layers.ts'
import type { SpanFiller } from './span-filler.ts'
import { denyIndex, wrongIndex } from './wrong-index.ts'

/** Between tries to verify a layer. */
const AGAIN_MS = 5_000

export interface LayerVerifierOptions extends Pick<HandlerOptions, 'metadata' | 'bootId' | 'onDenied'> {
  readonly layers: ServedLayers
  readonly filler: SpanFiller
  readonly profiles: ProfileRecorder
  /** Called for a layer whose spans are compared with their sums once more, and fetched where they differ. */
  readonly fillAgain: (layer: ServedLayer) => void
  /** Called when a layer is complete and its row says so. */
  readonly onComplete: (entry: ServedEntry) => void
}

/** Verifies layers whose spans are all here: only then shows whether their lazy indexes were right. */
export class LayerVerifier {
  readonly #options: LayerVerifierOptions

  constructor(options: LayerVerifierOptions) {
    this.#options = options
  }

  /** Begins to verify a layer, unless that is under way. What fails is tried again. */
  begin(layer: ServedLayer): void {
    const { layers } = this.#options
    const entry = layers.find(layer.diffId)
    if (entry?.layer !== layer || entry.verifying !== undefined) return
    entry.verifying = this.#verify(entry).catch((error: unknown) => {
      const failure = toLoamError(error, `verify layer ${layer.diffId}`)
      report(failure.message)
      layers.giveUp(layer.diffId, failure)
      setTimeout(() => {
        entry.verifying = undefined
        this.begin(layer)
      }, AGAIN_MS)
    })
  }

  /** All spans had the sums of the index. Whether the index itself is right shows now. */
  async #verify(entry: ServedEntry): Promise<void> {
    const { filler, profiles, metadata, bootId, onComplete } = this.#options
    const { layer } = entry
    const { tarFd: fd, tarBytes, index, diffId } = layer
    const { algorithm } = splitDigest(diffId)
    const outcome = await filler.run({ kind: 'verify', fd, tarBytes, algorithm, index })
    if (outcome.kind !== 'verified') throw new Error('why' in outcome ? outcome.why : outcome.kind)
    if (outcome.digest !== diffId && !entry.isCheckedAgain) {
      // The disk may have lost what was written: an index is denied for ever.
      entry.isCheckedAgain = true
      await this.#checkAgain(entry)
      return
    }
    if (outcome.digest !== diffId || !outcome.isSkeletonRight) {
      const isOfTar = outcome.digest === diffId
      const why = isOfTar ? 'its skeleton is not that of the tar' : `the tar has the digest ${outcome.digest}`
      await this.#deny(entry, why)
      return
    }
    await profiles.end(layer)
    await metadata.layers.complete(diffId, newArtifactRecord(diffId, 'tar', bootId))
    onComplete(entry)
  }

  /** Compares all spans with their sums once more; those that differ are fetched again. */
  async #checkAgain(entry: ServedEntry): Promise<void> {
    const { filler, layers, fillAgain } = this.#options
    await filler.remove(entry.layer)
    if (layers.find(entry.layer.diffId) !== entry) return
    claimAll(entry.layer)
    entry.verifying = undefined
    fillAgain(entry.layer)
  }

  /** Nobody can say any more what of it is right: from now on all its reads fail. */
  async #deny(entry: ServedEntry, why: string): Promise<void> {
    const { filler, metadata, onDenied } = this.#options
    const { layer } = entry
    const failure = wrongIndex(layer, why)
    entry.wrong = failure
    dropAll(layer)
    await filler.remove(layer)
    onDenied(await denyIndex(layer, failure, why, metadata))
    entry.isDenied = true
    for (const { done } of entry.completions) done.reject(failure)
  }
}
