// CRI's image service, as a proxy of containerd's: kubelet pulls through it (--image-service-endpoint), and Loam fetches the layers of an image with the
// credentials of its pull. Everything else passes through byte by byte, also methods that are newer than Loam.
import {
  createServer,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DoorServer } from '../doors.ts'
import type { Log } from '../log.ts'
import { passAnswerOn, refuse, refuseUnknown } from './forward.ts'
import type { PullCredentials } from './pull-credentials.ts'
import { readPullRequest } from './pull-request.ts'
import { Upstream } from './upstream.ts'

/** Old kubelets call v1alpha2, whose messages are the same. */
const METHOD = /^\/runtime\.v1(?:alpha2)?\.ImageService\/(\w+)$/
/** The limit of messages of containerd. */
const MAX_REQUEST_BYTES = 16 << 20
/** More calls than a kubelet makes at the same time. */
const MAX_CALLS = 1000

export interface ImageServiceOptions {
  /** Socket of containerd. */
  readonly socket: string
  readonly credentials: PullCredentials
  readonly log: Log
}

/** Creates the server of the proxy. It has no listener: connections come by `accept`. */
export function createImageService({ socket, credentials, log }: ImageServiceOptions): DoorServer {
  const server = createServer({ settings: { maxConcurrentStreams: MAX_CALLS } })
  const sessions = new Set<ServerHttp2Session>()
  const upstream = new Upstream(socket)

  const serve = async (caller: ServerHttp2Stream, headers: IncomingHttpHeaders): Promise<void> => {
    const path = headers[':path'] ?? ''
    const method = METHOD.exec(path)?.[1]
    if (method === undefined) {
      refuseUnknown(caller, path)
      return
    }
    log.debug('pass on', { method })
    const body = method === 'PullImage' ? await readBody(caller) : undefined
    // A client that is gone has not asked for all of it.
    if (caller.destroyed) return
    const answer = upstream.session.request({ ...headers })
    using held = new DisposableStack()
    const given = body === undefined ? undefined : readPullRequest(body)
    if (given !== undefined) held.use(credentials.hold(given.image, given.credential))
    const ended = Promise.withResolvers<void>()
    answer.once('close', ended.resolve)
    passAnswerOn(answer, caller)
    if (body !== undefined) answer.write(body)
    if (caller.readableEnded) answer.end()
    else caller.pipe(answer)
    await ended.promise
  }

  server.on('session', (session) => {
    sessions.add(session)
    session.once('close', () => sessions.delete(session))
    // A client that is gone.
    session.on('error', () => undefined)
  })
  server.on('stream', (caller: ServerHttp2Stream, headers) => {
    caller.on('error', () => undefined)
    serve(caller, headers).catch((error: unknown) => {
      log.warn('pass on', { error: String(error) })
      refuse(caller, String(error))
    })
  })
  return {
    accept: (connection) => {
      server.emit('connection', connection)
    },
    stop: async ({ limitMs }) => {
      const closed = [...sessions].map(async (session) => {
        const { promise, resolve } = Promise.withResolvers<void>()
        session.once('close', resolve)
        session.close()
        return promise
      })
      const limit = new AbortController()
      await Promise.race([Promise.all(closed), sleep(limitMs, undefined, limit)])
      limit.abort()
      for (const session of sessions) session.destroy()
      upstream[Symbol.dispose]()
    },
  }
}

/** Returns the body of a call, or its beginning if it is larger than containerd accepts: the rest is read by the next reader. */
async function readBody(caller: ServerHttp2Stream): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  const over = Promise.withResolvers<void>()
  const read = (chunk: Buffer) => {
    chunks.push(chunk)
    bytes += chunk.length
    if (bytes > MAX_REQUEST_BYTES) over.resolve()
  }
  caller.on('data', read)
  for (const event of ['end', 'close', 'error']) caller.once(event, over.resolve)
  await over.promise
  caller.off('data', read)
  caller.pause()
  return Buffer.concat(chunks)
}
