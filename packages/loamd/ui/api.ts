import { signal } from '@preact/signals'
import type {
  ContainerInfo,
  HostReport,
  ImageContents,
  ImageHistory,
  ImageInspection,
  ImageLayers,
  ListedImage,
  PartialLayerInfo,
  PruneReport,
  StoreUsage,
  TreeDiff,
} from 'loamfs'
import { dropToken, takeToken } from './access.ts'

/** An error of the daemon, as in its problem document. */
export class ApiError extends Error {
  readonly status: number
  readonly hint: string | undefined

  constructor(message: string, status: number, hint?: string) {
    super(message)
    this.status = status
    this.hint = hint
  }
}

/** The version of the daemon, and the store that it serves. */
export interface DaemonVersion {
  readonly version: string
  readonly root: string
}

/** The options of a prune. */
export interface PruneRequest {
  readonly dryRun: boolean
  readonly all: boolean
  readonly local: boolean
}

type Fields = Readonly<Record<string, string | number | boolean | undefined>>

/** The token of this tab; undefined if there is none, or if the daemon does not accept it any more. */
export const token = signal(takeToken())

/** The operations of the API that this page uses. */
export const api = {
  version: async (): Promise<DaemonVersion> => get('/v1/version'),
  usage: async (): Promise<StoreUsage> => get('/v1/df'),
  images: async (): Promise<ListedImage[]> => get('/v1/images'),
  inspect: async (image: string): Promise<ImageInspection> => get('/v1/images/inspect', { image }),
  contents: async (image: string, path: string, layer?: number): Promise<ImageContents> =>
    get('/v1/images/contents', { image, path, layer }),
  history: async (image: string): Promise<ImageHistory> => get('/v1/images/history', { image }),
  layers: async (image: string): Promise<ImageLayers> => get('/v1/images/layers', { image, largest: 1 }),
  diff: async (from: string, to: string): Promise<TreeDiff> => get('/v1/images/diff', { from, to }),
  remove: async (image: string): Promise<unknown> => send('DELETE', '/v1/images', { image }),
  prune: async (request: PruneRequest): Promise<PruneReport> => post('/v1/images/prune', request),
  partialLayers: async (): Promise<PartialLayerInfo[]> => get('/v1/partial-layers'),
  containers: async (): Promise<ContainerInfo[]> => get('/v1/containers'),
  doctor: async (): Promise<HostReport> => get('/v1/doctor'),
}

async function get<Result>(path: string, fields: Fields = {}): Promise<Result> {
  return send('GET', path, fields)
}

async function post<Result>(path: string, body: object): Promise<Result> {
  return read(await ask(path, { method: 'POST', body: JSON.stringify(body) }, JSON_TYPE))
}

async function send<Result>(method: string, path: string, fields: Fields): Promise<Result> {
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) query.set(name, String(value))
  return read(await ask(query.size === 0 ? path : `${path}?${query}`, { method }))
}

const JSON_TYPE = { 'content-type': 'application/json' }

/** Sends a request with the token of this tab, and returns the answer if it is not an error. @throws ApiError */
export async function ask(
  path: string,
  init: RequestInit,
  headers: Readonly<Record<string, string>> = {},
): Promise<Response> {
  let response: Response
  try {
    response = await fetch(path, {
      ...init,
      headers: { ...headers, authorization: `Bearer ${token.value ?? ''}` },
      cache: 'no-store',
      credentials: 'omit',
      redirect: 'error',
      referrerPolicy: 'no-referrer',
    })
  } catch (error) {
    if (init.signal?.aborted === true) throw error
    throw new ApiError(
      'The daemon does not answer.',
      0,
      'Is loamd running? Open this page again with `loam ui`.',
    )
  }
  if (response.ok) return response
  if (response.status === 401) {
    dropToken()
    token.value = undefined
  }
  throw await readProblem(response)
}

async function read<Result>(response: Response): Promise<Result> {
  return (await response.json()) as Result
}

async function readProblem(response: Response): Promise<ApiError> {
  try {
    const { detail, hint } = (await response.json()) as { detail: string; hint?: string }
    return new ApiError(detail, response.status, hint)
  } catch {
    return new ApiError(`The daemon answered ${response.status}.`, response.status)
  }
}
