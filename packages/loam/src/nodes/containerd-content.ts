// The content store and the images of a running containerd (api/services/{content,images,leases,namespaces}/v1 of containerd;
// the numbers below are those of the fields).
import { randomUUID } from 'node:crypto'
import { type ErrorCode, isErrno, isLoamError, LoamError } from '../errors/index.ts'
import { type Descriptor, type Digest, parseDigest } from '../image/index.ts'
import { TimeLimit } from '../linux/index.ts'
import { GrpcError, type GrpcOptions, GrpcSession } from './grpc-session.ts'
import { readEntry, readFields, writeFields } from './protobuf.ts'

const CONTENT = '/containerd.services.content.v1.Content'
const LEASES = '/containerd.services.leases.v1.Leases'
/** Bytes of a message with data; containerd takes messages of 16 MiB. */
const WRITE_BYTES = 1 << 20
const ABORT_LIMIT_MS = 10_000
const WRITE = 1
const COMMIT = 2
const NOT_FOUND = 5
const ALREADY_EXISTS = 6

/** Codes for the answers of containerd; others are failures of a program. */
const CODES: Readonly<Record<number, ErrorCode>> = {
  1: 'CANCELED',
  [NOT_FOUND]: 'SOURCE_NOT_FOUND',
  8: 'NO_SPACE',
  12: 'MEDIA_TYPE_UNSUPPORTED',
  14: 'DAEMON_UNAVAILABLE',
}
const UNREACHABLE = ['ENOENT', 'ECONNREFUSED', 'EACCES', 'ECONNRESET', 'EPIPE'] as const

/** An image of a namespace of containerd. */
export interface ContainerdImage {
  readonly name: string
  /** Its manifest or index. */
  readonly target: Descriptor
}

/** Where a call acts. */
export interface ContainerdCall {
  readonly namespace: string
  /** Keeps what is written until something else refers to it. */
  readonly lease?: string | undefined
  readonly signal?: AbortSignal | undefined
}

/** A blob for the content store. */
export interface ContainerdBlob {
  readonly digest: Digest
  readonly sizeBytes: number
  readonly labels: Readonly<Record<string, string>>
  readonly data: AsyncIterable<Buffer>
}

/** A client of a containerd. Calls fail with SOURCE_NOT_FOUND, DAEMON_UNAVAILABLE, NO_SPACE, CANCELED and PROGRAM_FAILED. */
export class ContainerdContent implements Disposable {
  readonly #socket: string
  readonly #session: GrpcSession

  constructor(socket: string) {
    this.#socket = socket
    this.#session = new GrpcSession(socket)
  }

  /** Lists the names of all namespaces. */
  async namespaces(signal: AbortSignal | undefined): Promise<string[]> {
    const method = '/containerd.services.namespaces.v1.Namespaces/List'
    const names: string[] = []
    const bytes = await this.#call('list namespaces', method, new Uint8Array(), { signal })
    readFields(bytes, {
      1: (reader) => {
        readFields(reader.bytes(), {
          1: (inner) => {
            names.push(inner.string())
          },
        })
      },
    })
    return names
  }

  /** Lists the images of a namespace. */
  async images(call: ContainerdCall): Promise<ContainerdImage[]> {
    const images: ContainerdImage[] = []
    const bytes = await this.#ask(
      'list images',
      '/containerd.services.images.v1.Images/List',
      new Uint8Array(),
      call,
    )
    readFields(bytes, {
      1: (reader) => {
        images.push(readImage(reader.bytes()))
      },
    })
    return images
  }

  /** Finds the labels of a blob; undefined if the content store does not have it. */
  async find(digest: Digest, call: ContainerdCall): Promise<ReadonlyMap<string, string> | undefined> {
    const labels = new Map<string, string>()
    try {
      const bytes = await this.#ask(`find ${digest}`, `${CONTENT}/Info`, writeFields({ 1: digest }), call)
      readFields(bytes, {
        1: (reader) => {
          readFields(reader.bytes(), {
            5: (inner) => {
              labels.set(...readEntry(inner.bytes()))
            },
          })
        },
      })
      return labels
    } catch (error) {
      if (isLoamError(error, 'SOURCE_NOT_FOUND')) return undefined
      throw error
    }
  }

  /** Reads a blob whole. The caller verifies it. @throws DOCUMENT_TOO_LARGE */
  async read(digest: Digest, maxBytes: number, call: ContainerdCall): Promise<Buffer> {
    const attempted = `read ${digest}`
    const parts: Uint8Array[] = []
    let bytes = 0
    try {
      using stream = this.#session.open(`${CONTENT}/Read`, toOptions(call))
      stream.end(writeFields({ 1: digest }))
      for await (const message of stream.messages()) {
        readFields(message, {
          2: (reader) => {
            parts.push(reader.bytes())
          },
        })
        bytes += parts.at(-1)?.length ?? 0
        if (bytes > maxBytes)
          throw new LoamError('DOCUMENT_TOO_LARGE', `${attempted}: it has more than ${maxBytes} bytes`)
      }
    } catch (error) {
      throw this.#toLoamError(error, attempted)
    }
    return Buffer.concat(parts)
  }

  /** Writes a blob, which containerd verifies; if it has it by now, only adds the labels. Nothing is left on failure. */
  async write(blob: ContainerdBlob, call: ContainerdCall): Promise<void> {
    const { digest, labels } = blob
    const ref = `loam-${digest}-${randomUUID()}`
    try {
      await this.#write(ref, blob, call)
    } catch (error) {
      if (error instanceof GrpcError && error.status === ALREADY_EXISTS) {
        await this.label(digest, labels, call)
        return
      }
      using limit = new TimeLimit(ABORT_LIMIT_MS)
      const { signal } = limit
      // What is left of it goes with the lease in any case.
      await this.#ask('abort', `${CONTENT}/Abort`, writeFields({ 1: ref }), { ...call, signal }).catch(
        () => undefined,
      )
      throw this.#toLoamError(error, `write ${digest}`)
    }
  }

  async #write(ref: string, blob: ContainerdBlob, call: ContainerdCall): Promise<void> {
    const { digest, sizeBytes, labels, data } = blob
    using stream = this.#session.open(`${CONTENT}/Write`, toOptions(call))
    const answers = stream.messages()
    const ask = async (fields: Parameters<typeof writeFields>[0]) => {
      await stream.send(writeFields({ ...fields, 2: ref }))
      if ((await answers.next()).done === true) throw new Error('the call has ended')
    }
    const place = { 3: sizeBytes, 4: digest }
    let offset = 0
    for await (const chunk of data) {
      for (let start = 0; start < chunk.length; start += WRITE_BYTES) {
        const part = chunk.subarray(start, start + WRITE_BYTES)
        await ask({ 1: WRITE, ...place, 5: offset, 6: part })
        offset += part.length
      }
    }
    await ask({ 1: COMMIT, ...place, 5: offset, 7: labels })
    stream.end()
  }

  /** Adds labels to a blob. */
  async label(digest: Digest, labels: Readonly<Record<string, string>>, call: ContainerdCall): Promise<void> {
    const paths = Object.keys(labels).map((name) => `labels.${name}`)
    if (paths.length === 0) return
    const request = writeFields({
      1: writeFields({ 1: digest, 5: labels }),
      2: writeFields({ 1: paths }),
    })
    await this.#ask(`label ${digest}`, `${CONTENT}/Update`, request, call)
  }

  /** Creates a lease that ends by itself. Returns its ID. */
  async createLease(expiresAtMs: number, call: ContainerdCall): Promise<string> {
    const id = `loam-${randomUUID()}`
    const labels = { 'containerd.io/gc.expire': new Date(expiresAtMs).toISOString() }
    await this.#ask('create a lease', `${LEASES}/Create`, writeFields({ 1: id, 3: labels }), call)
    return id
  }

  /** Ends a lease. */
  async removeLease(id: string, call: ContainerdCall): Promise<void> {
    await this.#ask(`remove lease ${id}`, `${LEASES}/Delete`, writeFields({ 1: id }), call)
  }

  async #ask(
    attempted: string,
    method: string,
    request: Uint8Array,
    call: ContainerdCall,
  ): Promise<Uint8Array> {
    return this.#call(attempted, method, request, toOptions(call))
  }

  async #call(
    attempted: string,
    method: string,
    request: Uint8Array,
    options: GrpcOptions,
  ): Promise<Uint8Array> {
    try {
      return await this.#session.call(method, request, options)
    } catch (error) {
      throw this.#toLoamError(error, attempted)
    }
  }

  #toLoamError(error: unknown, attempted: string): unknown {
    const at = `${attempted}: containerd at ${this.#socket}`
    if (isErrno(error, ...UNREACHABLE)) {
      return new LoamError('DAEMON_UNAVAILABLE', `${at}: ${error.message}`, {
        cause: error,
        hint: 'The socket of containerd is a setting: containerd_socket, or --containerd-socket PATH.',
      })
    }
    if (!(error instanceof GrpcError)) return error
    const { status, details } = error
    return new LoamError(CODES[status] ?? 'PROGRAM_FAILED', `${at}: ${details}`, {
      cause: error,
      details: { status },
    })
  }

  [Symbol.dispose](): void {
    this.#session[Symbol.dispose]()
  }
}

function toOptions({ namespace, lease, signal }: ContainerdCall): GrpcOptions {
  const headers = { 'containerd-namespace': namespace }
  return { headers: lease === undefined ? headers : { ...headers, 'containerd-lease': lease }, signal }
}

function readImage(bytes: Uint8Array): ContainerdImage {
  let name = ''
  const target = { mediaType: '', digest: '', sizeBytes: 0 }
  readFields(bytes, {
    1: (reader) => {
      name = reader.string()
    },
    3: (reader) => {
      readFields(
        reader.bytes(),
        {
          1: (inner) => {
            target.mediaType = inner.string()
          },
          2: (inner) => {
            target.digest = inner.string()
          },
        },
        {
          3: (inner) => {
            target.sizeBytes = Number(inner.int64())
          },
        },
      )
    },
  })
  return { name, target: { ...target, digest: parseDigest(target.digest) } }
}
