import type { Activity } from '../activity/index.ts'
import { toLoamError } from '../errors/index.ts'
import type { Digest } from '../image/index.ts'
import type { ImageRecord } from '../metadata/index.ts'
import type { ImageSource } from '../sources/index.ts'
import type { GetOptions } from '../stores/index.ts'
import { subjectOf } from './index-by-name.ts'
import { indexImage, type IndexServices } from './index-image.ts'
import type { ImageServices } from './services.ts'

type Services = IndexServices & Pick<ImageServices, 'blobs'> & { readonly activity: Activity }

/** Images that may wait for their indexes; further ones are indexed by their next pull. */
const MAX_WAITING = 64

/**
 * Makes the lazy indexes of pulled images, as `lazy_index` says, and publishes them: one image after the other, after its pull. A failure is a note for
 * whoever pulled, or the end of the operation `images.index` for observers; it never fails the pull.
 */
export class IndexAfterPull implements AsyncDisposable {
  readonly #services: Services
  readonly #waiting = new Set<Digest>()
  readonly #closing = new AbortController()
  #isInBackground = false
  #last: Promise<void> = Promise.resolve()

  constructor(services: Services) {
    this.#services = services
  }

  /** From now on callers are gone when the work is done: they get no events, and `Symbol.asyncDispose` ends the work instead of waiting for it. */
  runInBackground(): void {
    this.#isInBackground = true
  }

  /** Begins with an image, if it is to be indexed. Its source stays open until then. */
  readonly begin = (
    record: ImageRecord,
    source: ImageSource,
    { onEvent }: Pick<GetOptions, 'onEvent'> = {},
  ): void => {
    const { digest } = record
    if (this.#services.configuration.values.lazy_index === 'off' || this.#waiting.has(digest)) return
    // The files of other sources may be gone by then.
    if (!source.isRemote || record.layers.length === 0 || this.#waiting.size === MAX_WAITING) return
    this.#waiting.add(digest)
    const tell = this.#isInBackground ? undefined : onEvent
    this.#last = this.#last.then(async () => this.#index(record, source, tell))
    source.keepOpen?.(this.#last)
  }

  async #index(record: ImageRecord, source: ImageSource, onEvent: GetOptions['onEvent']): Promise<void> {
    const { activity } = this.#services
    const attributes = { image: source.name, digest: record.digest }
    try {
      this.#closing.signal.throwIfAborted()
      await activity.observe('images.index', attributes, async () => this.#publish(record, source))
    } catch (error) {
      const { message } = toLoamError(error, `index ${source.name}`)
      onEvent?.({ kind: 'note', text: `no lazy index was published: ${message}` })
    } finally {
      this.#waiting.delete(record.digest)
    }
  }

  async #publish(record: ImageRecord, source: ImageSource): Promise<void> {
    const { configuration, metadata } = this.#services
    const { signal } = this.#closing
    const { lazy_index: mode, lazy_index_dir: directory } = configuration.values
    // The index of a partial layer came from elsewhere, and is not proved yet.
    if (record.layers.some(({ diffId }) => metadata.layers.find(diffId)?.data !== 'complete')) return
    const push = mode === 'publish' ? source.lazyArtifacts : undefined
    // Somebody else's artifact may be signed.
    const isPublished =
      push !== undefined && (await isAny(push.find(record.digest, { pin: undefined, signal })))
    const targets = {
      directories: directory === undefined ? [] : [directory],
      push: isPublished ? undefined : push,
    }
    await indexImage(this.#services, subjectOf(this.#services, record, source), targets, { signal })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isInBackground) this.#closing.abort()
    await this.#last
  }
}

async function isAny(items: AsyncIterable<unknown>): Promise<boolean> {
  for await (const _item of items) return true
  return false
}
