import { type ErrorCode, isLoamError } from '../errors/index.ts'
import type { CredentialSource } from '../registry/index.ts'
import { askedBy, formatImageName, type ImageName, type ImageSource } from '../sources/index.ts'
import type { SourceOpener } from './source-opener.ts'

/** A client requests the layers of an image one after the other. One that waits longer opens the source again. */
const IDLE_MS = 10_000

/** Errors after which other credentials are tried. Registries hide images from those who may not see them. */
const REFUSALS: readonly ErrorCode[] = [
  'REGISTRY_UNAUTHORIZED',
  'REGISTRY_DENIED',
  'IMAGE_NOT_FOUND',
  'CREDENTIALS_INVALID',
]

/** An image as its user requested it, and as it was found. */
export interface NamedImage {
  readonly asked: ImageName
  readonly pinned: ImageName
}

type Open = (act: (source: ImageSource) => Promise<void>) => Promise<void>

/** One opening of a source: it is closed when it is over and no call uses it any more. */
class OpenedSource {
  readonly source: Promise<ImageSource>
  readonly closed: Promise<unknown>
  readonly #over = Promise.withResolvers<void>()
  #users = 0
  #isOver = false

  constructor(open: Open) {
    const opened = Promise.withResolvers<ImageSource>()
    this.source = opened.promise
    const done = open(async (source) => {
      opened.resolve(source)
      await this.#over.promise
    })
    // Of a source that opened, an error is that of closing it: the next sweep removes what is left.
    this.closed = done.catch(opened.reject)
  }

  get isIdle(): boolean {
    return this.#users === 0
  }

  async use<T>(act: (source: ImageSource) => Promise<T>): Promise<T> {
    this.#users += 1
    try {
      return await act(await this.source)
    } finally {
      this.#users -= 1
      this.#closeIfDone()
    }
  }

  end(): void {
    this.#isOver = true
    this.#closeIfDone()
  }

  #closeIfDone(): void {
    if (this.#isOver && this.#users === 0) this.#over.resolve()
  }
}

interface SessionOptions {
  readonly name: string
  readonly credentials: CredentialSource | undefined
  readonly signal: AbortSignal
  readonly open: Open
  /** Called when it is closed. */
  readonly onIdle: () => void
}

/** The source of one image, with one credential, for calls that follow each other: they share its connections, its tokens and its answer to a password. */
export class ImageSession implements AsyncDisposable {
  readonly name: string
  readonly credentials: CredentialSource | undefined
  /** Fires when the store is closed. */
  readonly signal: AbortSignal
  readonly #open: Open
  readonly #onIdle: () => void
  #opened: OpenedSource | undefined
  #timer: NodeJS.Timeout | undefined

  constructor({ name, credentials, signal, open, onIdle }: SessionOptions) {
    this.name = name
    this.credentials = credentials
    this.signal = signal
    this.#open = open
    this.#onIdle = onIdle
  }

  /** Does something with the source. After a failure the next call opens it again: its credentials may have changed. */
  async with<T>(act: (source: ImageSource) => Promise<T>): Promise<T> {
    clearTimeout(this.#timer)
    const opened = (this.#opened ??= new OpenedSource(this.#open))
    try {
      return await opened.use(act)
    } catch (error) {
      this.#end(opened)
      throw error
    } finally {
      if (opened.isIdle && (this.#opened ?? opened) === opened)
        this.#timer = setTimeout(() => void this[Symbol.asyncDispose](), IDLE_MS).unref()
    }
  }

  #end(opened: OpenedSource): void {
    if (this.#opened === opened) this.#opened = undefined
    opened.end()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#timer)
    this.#onIdle()
    const opened = this.#opened
    if (opened === undefined) return
    this.#end(opened)
    await opened.closed
  }
}

/** The sessions that are in use, or were a moment ago. */
export class ImageSessions implements AsyncDisposable {
  readonly #sources: Pick<SourceOpener, 'with'>
  readonly #sessions = new Set<ImageSession>()
  readonly #closing = new AbortController()

  constructor(sources: Pick<SourceOpener, 'with'>) {
    this.#sources = sources
  }

  /** Returns the session of an image and a credential. Undefined: those of the configuration. */
  of({ asked, pinned }: NamedImage, credentials: CredentialSource | undefined): ImageSession {
    const name = `${formatImageName(pinned)} ${formatImageName(asked)}`
    for (const known of this.#sessions)
      if (known.name === name && known.credentials === credentials) return known
    const { signal } = this.#closing
    const open: Open = async (act) =>
      this.#sources.with(pinned, { credentials, signal }, async (source) =>
        // The client has found the digest; a policy evaluates the requested name.
        act(Object.assign(source, { asked: askedBy(asked) })),
      )
    const onIdle = () => this.#sessions.delete(session)
    const session: ImageSession = new ImageSession({ name, credentials, signal, open, onIdle })
    this.#sessions.add(session)
    return session
  }

  /** Tries the given credentials one after the other, and then those of the configuration, until one is not refused. @throws the error of the first */
  async tryEach<T>(
    named: NamedImage,
    given: readonly CredentialSource[],
    act: (session: ImageSession) => Promise<T>,
  ): Promise<T> {
    let refusal: unknown
    for (const credentials of [...given, undefined]) {
      try {
        return await act(this.of(named, credentials))
      } catch (error) {
        refusal ??= error
        if (!isLoamError(error, ...REFUSALS)) throw error
      }
    }
    throw refusal
  }

  /** Stops what is in progress. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort()
    await Promise.all([...this.#sessions].map(async (session) => session[Symbol.asyncDispose]()))
  }
}
