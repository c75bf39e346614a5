import { ImageSession, type SourceOpener } from '../images/index.ts'
import { isOwnWord, type LazySource, type MetadataStore } from '../metadata/index.ts'
import type { ImageSource } from '../sources/index.ts'

/** Opens the sources of partial layers, and keeps them open between requests. After a failure a source is opened again: with new credentials. */
export class BlobSources {
  readonly #sources: SourceOpener
  readonly #metadata: MetadataStore
  readonly #sessions = new Map<string, ImageSession>()
  readonly #closing = new AbortController()

  constructor(sources: SourceOpener, metadata: MetadataStore) {
    this.#sources = sources
    this.#metadata = metadata
  }

  /** Uses a source of a layer: that which it was requested from, and after failures in turn those by other names of images with this layer. */
  async with<T>(source: LazySource, tries: number, act: (source: ImageSource) => Promise<T>): Promise<T> {
    const names = tries === 0 ? [source.reference] : this.#namesOf(source)
    return this.#sessionOf(names[tries % names.length] ?? source.reference).with(act)
  }

  #namesOf({ diffId, reference }: LazySource): string[] {
    const { images } = this.#metadata
    const names = images.usersOfLayer(diffId).flatMap((digest) => images.namesOf(digest))
    // An archive may name any host, and Loam must not contact a host that the user did not name.
    const asked = names.filter((name) => !isOwnWord(name))
    return [...new Set([reference, ...asked.map((name) => name.reference)])]
  }

  #sessionOf(name: string): ImageSession {
    const known = this.#sessions.get(name)
    if (known !== undefined) return known
    const session = new ImageSession({
      name,
      credentials: undefined,
      signal: this.#closing.signal,
      open: async (act) => this.#sources.with(this.#sources.parse(name).name, {}, act),
      onIdle: () => {
        if (this.#sessions.get(name) === session) this.#sessions.delete(name)
      },
    })
    this.#sessions.set(name, session)
    return session
  }
}
