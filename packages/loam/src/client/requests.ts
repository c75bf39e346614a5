import { createReadStream, createWriteStream, write } from 'node:fs'
import { resolve } from 'node:path'
import { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { isErrno, LoamError } from '../errors/index.ts'
import { formatPlatform, type ImageRequest, splitTransport } from '../image/index.ts'
import type { FetchOptions, ImageOptions } from '../images/index.ts'
import type { ImageAddress } from '../sources/index.ts'

/** Options of a call that may fetch: a function that finds credentials cannot be sent, but the text of a Docker config.json can. */
export type RemoteFetchOptions<Options extends FetchOptions = FetchOptions> = Omit<Options, 'credentials'> & {
  /** Credentials for this request only: the text of a Docker config.json. */
  readonly dockerConfig?: string | undefined
}

/** Fields of a request that may fetch. */
export interface FetchFields {
  readonly dockerConfig: string | undefined
  readonly authFile: string | undefined
  readonly insecure: readonly string[] | undefined
  readonly certsDir: string | undefined
}

/** Fields of a request about an image. */
export interface ImageFields extends FetchFields {
  readonly platform: string | undefined
  readonly imageType: ImageOptions['imageType']
}

/** Returns the fields of a request that may fetch. Paths become absolute: the daemon has another working directory. */
export function toFetchFields({
  dockerConfig,
  authFile,
  insecure,
  certsDir,
  ...rest
}: RemoteFetchOptions): FetchFields {
  if ('credentials' in rest && rest.credentials !== undefined) {
    throw new LoamError('USAGE', 'call the daemon: credentials are a function, which cannot be sent', {
      hint: 'Give the text of a Docker config.json as dockerConfig, or a file as authFile.',
    })
  }
  return { dockerConfig, authFile: absolute(authFile), insecure, certsDir: absolute(certsDir) }
}

/** Returns the fields of a request about an image. */
export function toImageFields(options: RemoteFetchOptions<ImageOptions>): ImageFields {
  const { platform, imageType } = options
  return {
    ...toFetchFields(options),
    platform: platform === undefined ? undefined : formatPlatform(platform),
    imageType,
  }
}

/** Returns the absolute path of a file of this process. */
export function absolute(path: string): string
export function absolute(path: string | undefined): string | undefined
export function absolute(path: string | undefined): string | undefined {
  return path === undefined ? undefined : resolve(path)
}

/** Returns the name of an image with an absolute path. */
export function absoluteImage<Image extends string | ImageRequest>(image: Image): Image
export function absoluteImage(image: string | ImageRequest): string | ImageRequest {
  if (typeof image === 'string' && image.startsWith('{')) return absoluteRequest(image)
  if (typeof image === 'string') {
    const { transport, rest = '' } = splitTransport(image, 'file') ?? {}
    return rest === '' || rest.startsWith('/') ? image : `${transport}:${resolve(rest)}`
  }
  return 'oci' in image ? { ...image, oci: { name: resolve(image.oci.name) } } : image
}

/** A request of a framework as text; the daemon reports invalid ones. */
function absoluteRequest(text: string): string {
  try {
    return JSON.stringify(absoluteImage(JSON.parse(text) as ImageRequest))
  } catch {
    return text
  }
}

const OUTPUTS: ReadonlyMap<string, number> = new Map(
  Object.entries({ '-': 1, '/dev/stdout': 1, '/dev/stderr': 2 }),
)

/** Returns the descriptor of this process that an output names; undefined for a file, which the daemon writes. */
export function descriptorOf(output: string): number | undefined {
  const [, number] = /^\/(?:dev|proc\/self)\/fd\/(\d+)$/.exec(output) ?? []
  return number === undefined ? OUTPUTS.get(output) : Number(number)
}

/** Opens a stream to a new file, or to a descriptor of this process, which stays open. */
export function streamTo(target: string | number): Writable {
  return typeof target === 'string'
    ? createWriteStream(target, { flags: 'wx', mode: 0o600, flush: true })
    : new DescriptorStream(target)
}

const FULL_PIPE_WAIT_MS = 5
const writePart = promisify(write)

/** Writes to a descriptor, which may be a pipe that does not block. */
class DescriptorStream extends Writable {
  readonly #descriptor: number

  constructor(descriptor: number) {
    super()
    this.#descriptor = descriptor
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    void this.#writeAll(chunk, done)
  }

  async #writeAll(chunk: Buffer, done: (error?: Error | null) => void): Promise<void> {
    for (let written = 0; written < chunk.length && !this.destroyed; ) {
      try {
        const { bytesWritten } = await writePart(this.#descriptor, chunk, written)
        written += bytesWritten
      } catch (error) {
        if (!isErrno(error, 'EAGAIN')) {
          done(error instanceof Error ? error : new Error(String(error)))
          return
        }
        await sleep(FULL_PIPE_WAIT_MS)
      }
    }
    done()
  }
}

/** Returns the absolute address of an image: a URL, or a path. */
function absoluteAddress(address: string): string {
  if (/^[a-z][a-z0-9+.-]*:\/\//.test(address)) return address
  return splitTransport(address, 'file') === undefined ? resolve(address) : absoluteImage(address)
}

/** Returns the bytes of a tar: a stream, a descriptor or a file of this process. */
export function tarOf(tar: string | AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  if (typeof tar !== 'string') return tar
  const source = sourceOf(tar)
  return typeof source === 'string' ? createReadStream(source) : source
}

/** Returns what the daemon is to read, by its absolute address; or the stream that this process has: itself, or one of its descriptors. */
export function sourceOf(address: ImageAddress): ImageAddress {
  if (typeof address !== 'string') return address
  const [, number] = /^\/(?:dev|proc\/self)\/fd\/(\d+)$/.exec(address) ?? []
  const descriptor = address === '-' || address === '/dev/stdin' ? 0 : number
  if (descriptor === undefined) return absoluteAddress(address)
  return createReadStream('', { fd: Number(descriptor), autoClose: false })
}
