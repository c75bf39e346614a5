import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { create } from '@bufbuild/protobuf'
import type { DescMethod, MessageInitShape, MessageShape } from '@bufbuild/protobuf'
import { Client, credentials, type Metadata, type ServiceError, status } from '@grpc/grpc-js'
import { type ErrorCode, isLoamError, LoamError } from 'loamfs'
import { TimeLimit } from 'loamfs/internal'
import {
  Content,
  WriteAction,
  type WriteContentRequest,
  WriteContentRequestSchema,
  type WriteContentResponse,
} from '../gen/content_pb.js'
import { type ApplyRequest, type ApplyResponse, Diff } from '../gen/diff_pb.js'
import { Leases } from '../gen/leases_pb.js'
import { decode, encode } from './messages.ts'

/** Bytes of a message with data; containerd takes messages of 16 MiB. */
const WRITE_BYTES = 1 << 20
const MAX_MESSAGE_BYTES = 16 << 20
const ABORT_LIMIT_MS = 10_000
/** The label of a lease's end (containerd core/metadata/gc.go). */
const EXPIRES = 'containerd.io/gc.expire'

/** Codes for the answers of containerd; others are failures of a program. */
const CODES: Readonly<Partial<Record<status, ErrorCode>>> = {
  [status.NOT_FOUND]: 'SOURCE_NOT_FOUND',
  [status.UNAVAILABLE]: 'DAEMON_UNAVAILABLE',
  [status.CANCELLED]: 'CANCELED',
  [status.RESOURCE_EXHAUSTED]: 'NO_SPACE',
  [status.UNIMPLEMENTED]: 'MEDIA_TYPE_UNSUPPORTED',
}

/** A blob that is written to the content store. */
export interface NewBlob {
  /** Names the unfinished blob, which is removed on failure. */
  readonly ref: string
  /** Called when all data is written. */
  readonly labels: () => Readonly<Record<string, string>>
  readonly data: AsyncIterable<Buffer>
}

/** The request that a call of containerd is a part of. */
export interface CallOptions {
  /** Has its namespace and its lease. */
  readonly metadata: Metadata
  readonly signal: AbortSignal
}

/** The content store and the differs of a containerd. Calls fail with SOURCE_NOT_FOUND, DAEMON_UNAVAILABLE, NO_SPACE, CANCELED and PROGRAM_FAILED. */
export class ContainerdClient implements Disposable {
  readonly #client: Client
  readonly #socket: string

  constructor(socket: string) {
    this.#socket = socket
    this.#client = new Client(`unix://${socket}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      'grpc.use_local_subchannel_pool': 1,
    })
  }

  /** Yields a blob from its start. */
  async *read(digest: string, { metadata, signal }: CallOptions): AsyncGenerator<Buffer> {
    const { read } = Content.method
    signal.throwIfAborted()
    const call = this.#client.makeServerStreamRequest(
      pathOf(read),
      encode(read.input),
      decode(read.output),
      create(read.input, { digest }),
      metadata,
    )
    using _canceling = cancelBy(signal, call)
    try {
      for await (const message of call) {
        const { data } = message as MessageShape<typeof read.output>
        yield Buffer.from(data.buffer, data.byteOffset, data.byteLength)
      }
    } catch (error) {
      signal.throwIfAborted()
      throw this.#toLoamError(error, `read ${digest}`)
    } finally {
      call.cancel()
    }
  }

  /** Returns the size of a blob in the content store. */
  async sizeOf(digest: string, options: CallOptions): Promise<number> {
    const { info } = await this.#ask(Content.method.info, { digest }, options)
    return Number(info?.size ?? 0)
  }

  /** Writes a blob, and returns its digest and size once it is in the content store, which may have had it. */
  async write(blob: NewBlob, options: CallOptions): Promise<{ digest: string; sizeBytes: number }> {
    try {
      return await this.#write(blob, options)
    } catch (error) {
      // What is left of it goes later in any case.
      using limit = new TimeLimit(ABORT_LIMIT_MS)
      const { signal } = limit
      await this.#ask(Content.method.abort, { ref: blob.ref }, { ...options, signal }).catch(() => undefined)
      throw this.#toLoamError(error, `write ${blob.ref}`)
    }
  }

  async #write(
    { ref, labels, data }: NewBlob,
    options: CallOptions,
  ): Promise<{ digest: string; sizeBytes: number }> {
    const { metadata, signal } = options
    const { write } = Content.method
    signal.throwIfAborted()
    const call = this.#client.makeBidiStreamRequest<WriteContentRequest, WriteContentResponse>(
      pathOf(write),
      encode(write.input),
      decode(write.output),
      metadata,
    )
    using _canceling = cancelBy(signal, call)
    const answers = call[Symbol.asyncIterator]()
    const ask = async (request: MessageInitShape<typeof WriteContentRequestSchema>) => {
      if (!call.write(create(WriteContentRequestSchema, request))) await once(call, 'drain', { signal })
      if ((await answers.next()).done === true)
        throw new LoamError('DAEMON_LOST', `write ${ref}: containerd ended the call`)
    }
    const hash = createHash('sha256')
    let offset = 0n
    try {
      for await (const chunk of inPieces(data)) {
        hash.update(chunk)
        await ask({ action: WriteAction.WRITE, ref, offset, data: chunk })
        offset += BigInt(chunk.length)
      }
      const digest = `sha256:${hash.digest('hex')}`
      const written = { digest, sizeBytes: Number(offset) }
      const given = { ...labels() }
      try {
        await ask({ action: WriteAction.COMMIT, ref, offset, total: offset, expected: digest, labels: given })
      } catch (error) {
        if (!isStatus(error, status.ALREADY_EXISTS)) throw error
        await this.#addLabels(digest, given, options)
      }
      call.end()
      return written
    } finally {
      call.cancel()
    }
  }

  async #addLabels(
    digest: string,
    labels: Readonly<Record<string, string>>,
    options: CallOptions,
  ): Promise<void> {
    const paths = Object.keys(labels).map((name) => `labels.${name}`)
    if (paths.length === 0) return
    const info: MessageInitShape<typeof Content.method.update.input>['info'] = {
      digest,
      labels: { ...labels },
    }
    await this.#ask(Content.method.update, { info, updateMask: { paths } }, options)
  }

  /** Creates a lease that keeps what is written with its ID until it expires, unless something else refers to it by then. */
  async createLease(id: string, expiresAtMs: number, options: CallOptions): Promise<void> {
    const labels = { [EXPIRES]: new Date(expiresAtMs).toISOString() }
    await this.#ask(Leases.method.create, { id, labels }, options)
  }

  /** Lets the differs of containerd apply a layer, this one among them. */
  async apply(request: ApplyRequest, options: CallOptions): Promise<ApplyResponse> {
    return this.#ask(Diff.method.apply, request, options)
  }

  async #ask<Method extends DescMethod>(
    method: Method,
    request: MessageInitShape<Method['input']>,
    { metadata, signal }: CallOptions,
  ): Promise<MessageShape<Method['output']>> {
    signal.throwIfAborted()
    const { promise, resolve, reject } = Promise.withResolvers<MessageShape<Method['output']>>()
    const call = this.#client.makeUnaryRequest(
      pathOf(method),
      encode<Method['input']>(method.input),
      decode<Method['output']>(method.output),
      create<Method['input']>(method.input, request),
      metadata,
      (error, response) => {
        if (response === undefined) reject(this.#toLoamError(error, method.name))
        else resolve(response)
      },
    )
    using _canceling = cancelBy(signal, call)
    return await promise
  }

  #toLoamError(error: unknown, attempted: string): unknown {
    if (isLoamError(error) || !isServiceError(error)) return error
    const hint =
      'The socket of containerd is a setting: containerd_socket, or loamd --containerd-socket PATH.'
    const code = CODES[error.code] ?? 'PROGRAM_FAILED'
    return new LoamError(code, `${attempted}: containerd at ${this.#socket}: ${error.details}`, {
      cause: error,
      details: { status: status[error.code] },
      hint: code === 'DAEMON_UNAVAILABLE' ? hint : undefined,
    })
  }

  [Symbol.dispose](): void {
    this.#client.close()
  }
}

/** Cancels a call when a signal fires. Its errors reach those who read it; without a listener an early one would end the process. */
function cancelBy(
  signal: AbortSignal,
  call: { readonly cancel: () => void; readonly on: (event: 'error', listener: () => void) => unknown },
): Disposable {
  call.on('error', () => undefined)
  const cancel = () => {
    call.cancel()
  }
  signal.addEventListener('abort', cancel)
  return {
    [Symbol.dispose]: () => {
      signal.removeEventListener('abort', cancel)
    },
  }
}

function isStatus(error: unknown, code: status): boolean {
  return isServiceError(error) && error.code === code
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' && 'details' in error
}

function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`
}

/** Cuts large chunks; a message has a limit. */
async function* inPieces(data: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  for await (const chunk of data) {
    for (let start = 0; start < chunk.length; start += WRITE_BYTES)
      yield chunk.subarray(start, start + WRITE_BYTES)
  }
}
