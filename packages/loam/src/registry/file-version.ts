import { header, totalOf } from './responses.ts'
import type { Response } from './transport.ts'

/**
 * One version of a file of a web server, which may change between two requests (RFC 9110, 8.8 and 13.1.5): its validators and its size,
 * as far as its first answer has them.
 */
export class FileVersion {
  readonly #etag: string | undefined
  readonly #modified: string | undefined
  readonly #totalBytes: number | undefined

  constructor(response: Response) {
    this.#etag = header(response, 'etag')
    this.#modified = header(response, 'last-modified')
    this.#totalBytes = totalOf(response)
  }

  /** Whether a further answer can be compared with this version at all. */
  get canBeResumed(): boolean {
    return [this.#etag, this.#modified, this.#totalBytes].some((part) => part !== undefined)
  }

  /** Header of a request for a part of this version. A weak ETag is not allowed there. */
  get condition(): Readonly<Record<string, string>> {
    const validator = this.#etag?.startsWith('W/') === false ? this.#etag : this.#modified
    return validator === undefined ? {} : { 'if-range': validator }
  }

  /** Returns whether an answer has another version, or nothing that shows which one it has. */
  isOther(response: Response): boolean {
    const next = new FileVersion(response)
    const pairs = [
      [opaqueOf(this.#etag), opaqueOf(next.#etag)],
      [this.#modified, next.#modified],
      [this.#totalBytes, next.#totalBytes],
    ].filter((pair) => !pair.includes(undefined))
    return pairs.length === 0 || pairs.some(([own, other]) => own !== other)
  }
}

/** A server may make an ETag weak or strong as a file ages. */
function opaqueOf(etag: string | undefined): string | undefined {
  return etag?.replace(/^W\//, '')
}
