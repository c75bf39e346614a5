import { credentialsFromConfig, type FetchOptions, type ImageOptions, LoamError, parsePlatform } from 'loamfs'
import {
  type EventOf,
  type OperationName,
  type Operations,
  type RequestOf,
  type ResultOf,
  splitTransport,
} from 'loamfs/internal'
import type { Loam } from 'loamfs'
import { findOwnFile } from '../own-files.ts'

/** A request that is not answered yet. */
export interface RequestInProgress {
  readonly id: string | undefined
  readonly operation: string
  readonly startedAtMs: number
}

/** Facts about the daemon itself. */
export interface DaemonState {
  readonly startedAtMs: number
  readonly sockets: readonly { readonly name: string; readonly path: string }[]
  /** The requests in progress, by any key. */
  readonly requests: Map<object, RequestInProgress>
}

/** Control of the web page. */
export interface PageAccess {
  /** Serves the page, if it is not served, and returns its address with the token. */
  readonly open: () => Promise<string>
  /** Ends serving it. Returns whether it was served. */
  readonly close: () => Promise<boolean>
}

/** The context of an operation, in addition to its request. It knows no HTTP. */
export interface Context<Event> {
  readonly loam: Loam
  readonly daemon: DaemonState
  readonly page: PageAccess
  /** Fires when the last client that waits for the result has disconnected. */
  readonly signal: AbortSignal
  readonly onEvent: (event: Event) => void
}

/** Does an operation of the API. */
export type Action<Name extends OperationName> = (
  context: Context<EventOf<Operations[Name]>>,
  request: RequestOf<Operations[Name]>,
) => Promise<ResultOf<Operations[Name]>>

/** The actions of one kind of object. */
export type Actions<Kind extends string> = {
  readonly [Name in OperationName as Name extends `${Kind}.${string}` ? Name : never]: Action<Name>
}

interface FetchRequest {
  readonly dockerConfig?: string | undefined
  readonly authFile?: string | undefined
  readonly insecure?: readonly string[] | undefined
  readonly certsDir?: string | undefined
}

interface ImageFields extends FetchRequest {
  readonly platform?: string | undefined
  readonly imageType?: ImageOptions['imageType']
}

type FetchContext = Pick<FetchOptions, 'signal' | 'onEvent'>

/** Returns the options of the library for a request that may fetch. @throws CREDENTIALS_INVALID */
export function toFetchOptions({ signal, onEvent }: FetchContext, request: FetchRequest): FetchOptions {
  const { dockerConfig, authFile, insecure, certsDir } = request
  const credentials = dockerConfig === undefined ? undefined : credentialsFromConfig(dockerConfig)
  return { credentials, authFile, insecure, certsDir, signal, onEvent }
}

/** Returns the options of the library for a request about an image. @throws PLATFORM_INVALID, CREDENTIALS_INVALID */
export function toImageOptions(context: FetchContext, request: ImageFields): ImageOptions {
  const { platform, imageType } = request
  return {
    ...toFetchOptions(context, request),
    platform: platform === undefined ? undefined : parsePlatform(platform),
    imageType,
  }
}

/**
 * Refuses an image whose path is relative, or is a stream of a process: the daemon has another working directory and other streams than its client.
 * @throws USAGE
 */
export async function checkPlace<Image>(image: Image): Promise<Image> {
  const name = nameOf(image)
  const file = name === undefined ? undefined : splitTransport(name, 'file')
  if (name === undefined || file === undefined) return image
  if (!file.rest.startsWith('/')) {
    throw new LoamError('USAGE', `read ${JSON.stringify(name)}: the path is not absolute`, {
      hint: 'Name the file or directory by its path from the root: oci:/srv/images/app.',
    })
  }
  await checkFile(name)
  return image
}

/** Refuses a path or an address of a stream of a process, also behind links. @throws USAGE */
export async function checkFile(path: string): Promise<string> {
  if ((await findOwnFile([path], '/')) === undefined) return path
  throw new LoamError('USAGE', `use ${path}: that is a stream of the daemon itself`, {
    hint: 'GET /v1/export and /v1/snapshots/diff send a stream; for all else name a file.',
  })
}

/** A text that begins with a brace is a request as frameworks send it. */
function nameOf(image: unknown): string | undefined {
  if (typeof image === 'string') return image.startsWith('{') ? nameOf(parse(image)) : image
  if (typeof image !== 'object' || image === null || !('oci' in image)) return undefined
  const { oci } = image
  return typeof oci === 'object' && oci !== null && 'name' in oci ? `oci:${String(oci.name)}` : undefined
}

/** The reader of the request reports its errors. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
