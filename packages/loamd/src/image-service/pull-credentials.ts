import { MAX_TIMER_MS } from 'loamfs/internal'
import type { Credential, CredentialSource, ImageReference } from 'loamfs'

interface Held {
  readonly image: string
  readonly source: CredentialSource
}

/**
 * Credentials that clients of CRI give with a pull. They are in memory alone, for the layers of that image in its own repository, until the pull is over:
 * containerd requests all layers of an image before it answers.
 */
export class PullCredentials {
  readonly #limitMs: number
  /** The newest first: a client that was refused tries its next credential. */
  #held: readonly Held[] = []

  /** `limitMs` is the longest time for which a credential is held. */
  constructor(limitMs: number) {
    this.#limitMs = limitMs
  }

  /** Holds a credential for an image until it is disposed of. */
  hold(image: ImageReference, credential: Credential): Disposable {
    const { registry, repository } = image
    const find: CredentialSource['find'] = async (asked, options) =>
      asked === registry && options?.repository === repository ? credential : undefined
    const held = { image: nameOf(image), source: { find } }
    this.#held = [held, ...this.#held]
    const release = () => {
      this.#held = this.#held.filter((other) => other !== held)
    }
    const limit = setTimeout(release, Math.min(this.#limitMs, MAX_TIMER_MS)).unref()
    return {
      [Symbol.dispose]: () => {
        clearTimeout(limit)
        release()
      },
    }
  }

  /** Returns the credentials of the pulls of an image that are in progress. */
  readonly of = (image: ImageReference): readonly CredentialSource[] => {
    const name = nameOf(image)
    return this.#held.flatMap(({ image: held, source }) => (held === name ? [source] : []))
  }
}

/** A digest takes precedence over a tag, as in containerd. */
function nameOf({ registry, repository, tag, digest }: ImageReference): string {
  return `${registry}/${repository}${digest === undefined ? `:${tag}` : `@${digest}`}`
}
