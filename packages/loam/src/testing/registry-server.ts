import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { BuiltBlob, BuiltImage } from './image-builder.ts'

/** Answers a request in place of the registry. Returns true if it has answered. */
export type Interceptor = (request: IncomingMessage, response: ServerResponse) => boolean

/** A registry in this process, for tests and the demo: it serves its images, and counts requests. */
export class RegistryServer implements AsyncDisposable {
  readonly #server: Server
  readonly #blobs = new Map<string, Buffer>()
  readonly #manifests = new Map<string, { bytes: Buffer; mediaType: string }>()
  /** Method and path of each request, in order. */
  readonly requests: string[] = []
  /** Headers of each request, by method and path. */
  readonly headers: { readonly path: string; readonly headers: IncomingMessage['headers'] }[] = []
  intercept: Interceptor = () => false

  private constructor(server: Server) {
    this.#server = server
  }

  /** Starts a registry on a free port of the loopback interface. */
  static async start(): Promise<RegistryServer> {
    const server = createServer()
    const registry = new RegistryServer(server)
    server.on('request', (request, response) => {
      registry.#answer(request, response)
    })
    const { promise, resolve } = Promise.withResolvers<void>()
    server.listen(0, '127.0.0.1', resolve)
    await promise
    return registry
  }

  /** Host and port, for references. */
  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** Serves an image under a repository and tag. */
  addImage(repository: string, tag: string, image: BuiltImage): void {
    for (const { digest, bytes } of [image.config, ...image.layers]) this.#blobs.set(digest, bytes)
    this.addManifest(repository, tag, image.manifest, image.mediaType)
  }

  addManifest(repository: string, tag: string, { digest, bytes }: BuiltBlob, mediaType: string): void {
    for (const name of [tag, digest]) this.#manifests.set(`${repository}:${name}`, { bytes, mediaType })
  }

  /** Replaces the bytes of a blob, for wrong answers. */
  setBlob(digest: string, bytes: Buffer): void {
    this.#blobs.set(digest, bytes)
  }

  /** Returns the number of requests for a blob. */
  countBlob(digest: string): number {
    return this.requests.filter((path) => path.endsWith(`/blobs/${digest}`)).length
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const path = request.url ?? ''
    this.requests.push(`${request.method} ${path}`)
    this.headers.push({ path, headers: request.headers })
    if (this.intercept(request, response)) return
    this.answer(request, response)
  }

  /** Answers as the registry would; for an interceptor that only had to wait. */
  answer(request: IncomingMessage, response: ServerResponse): void {
    const path = request.url ?? ''
    const manifest = /^\/v2\/(.+)\/manifests\/([^/?]+)/.exec(path)
    const blob = /^\/v2\/.+\/blobs\/([^/?]+)/.exec(path)
    if (/^\/v2\/?$/.test(path)) response.end('{}')
    else if (manifest !== null) this.#sendManifest(`${manifest[1]}:${manifest[2]}`, response)
    else if (blob !== null) this.sendBlob(blob[1] ?? '', request, response)
    else notFound(response)
  }

  #sendManifest(key: string, response: ServerResponse): void {
    const found = this.#manifests.get(key)
    if (found === undefined) {
      notFound(response)
      return
    }
    response.writeHead(200, {
      'content-type': found.mediaType,
      'content-length': found.bytes.length,
    })
    response.end(found.bytes)
  }

  /** Sends a blob or the requested range of it. */
  sendBlob(digest: string, request: IncomingMessage, response: ServerResponse): void {
    const bytes = this.#blobs.get(digest)
    if (bytes === undefined) {
      notFound(response)
      return
    }
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '')
    const start = range === null ? 0 : Number(range[1])
    const end = range?.[2] ? Math.min(Number(range[2]) + 1, bytes.length) : bytes.length
    const headers = {
      'content-type': 'application/octet-stream',
      'content-length': end - start,
      ...(range === null ? {} : { 'content-range': `bytes ${start}-${end - 1}/${bytes.length}` }),
    }
    response.writeHead(range === null ? 200 : 206, headers)
    response.end(bytes.subarray(start, end))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#server.close(() => {
      resolve()
    })
    this.#server.closeAllConnections()
    await promise
  }
}

function notFound(response: ServerResponse): void {
  response.writeHead(404, { 'content-type': 'application/json' })
  response.end(JSON.stringify({ errors: [{ code: 'MANIFEST_UNKNOWN', message: 'not known here' }] }))
}
