import { join } from 'node:path'
import { type Loam, openLoam } from 'loamfs'
import { createGrpcServer } from './grpc-server.ts'
import { createHttpServer } from './http/server.ts'
import { ImageCollection } from './image-collection.ts'
import { listen, type Listener, type ListenOptions } from './listener.ts'
import type { Log } from './log.ts'
import { findGroupId } from './socket-group.ts'
import { passedSockets } from './systemd/passed-sockets.ts'

/** How long the daemon waits for calls in progress when it stops. */
const STOP_LIMIT_MS = 10_000

export interface DaemonOptions {
  readonly flags: Readonly<Record<string, string | boolean | undefined>>
  readonly configFile: string | undefined
  /** Socket of containerd's snapshots API (gRPC). */
  readonly socketPath: string
  /** Socket of Loam's own API (HTTP). Undefined: `loamd.sock` in the state directory. */
  readonly httpSocketPath?: string | undefined
  readonly isRemote: boolean
  readonly env: Readonly<Record<string, string | undefined>>
  readonly log: Log
}

/** A server with connections, and the socket that they come from. */
interface Door {
  readonly accept: ListenOptions['onConnection']
  readonly stop: (limitMs: number) => Promise<void>
}

/** Serves one store, to containerd and to clients of its own API, until it is disposed. */
export class Daemon implements AsyncDisposable {
  readonly #open: AsyncDisposableStack
  readonly #loam: Loam
  /** Path of the socket of Loam's own API. */
  readonly httpSocketPath: string

  private constructor(open: AsyncDisposableStack, loam: Loam, httpSocketPath: string) {
    this.#open = open
    this.#loam = loam
    this.httpSocketPath = httpSocketPath
  }

  /** Opens the store and listens. @throws what opening and listening say */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const { flags, configFile, socketPath, env, log } = options
    await using open = new AsyncDisposableStack()
    const loam = open.use(await openLoam({ flags, file: configFile, env }))
    const { values, warnings } = loam.store.configuration
    for (const warning of warnings) log.warn('read the settings', { error: warning })
    const report = await loam.recover()
    for (const { what, reason } of report.failed) log.warn('recover', { what, error: reason })
    const { httpSocketPath = join(values.state, 'loamd.sock') } = options
    const { socket_group: group } = values
    const passed = passedSockets(env)
    const doors = [
      {
        path: socketPath,
        fd: passed.snapshotter,
        door: createGrpcServer(openSnapshotter(loam, options), log),
      },
      {
        path: httpSocketPath,
        fd: passed.api,
        door: createHttpServer({ loam, log }),
        groupId: group === undefined ? undefined : findGroupId(group),
      },
    ]
    open.use(await openDoors(doors, log))
    open.use(new ImageCollection({ loam: () => loam, log }))
    return new Daemon(open.move(), loam, httpSocketPath)
  }

  /** Directory of the store. */
  get root(): string {
    return this.#loam.store.configuration.values.root
  }

  /** Shows that the store answers. @throws system errors */
  async check(): Promise<void> {
    await this.#loam.store.check()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#open[Symbol.asyncDispose]()
  }
}

function openSnapshotter(loam: Loam, { isRemote, log }: DaemonOptions) {
  return loam.snapshots.open({
    isRemote,
    onLeft: ({ ref, reason }) => {
      log.warn('left a layer to containerd', { ref, reason })
    },
    onNote: ({ ref, text }) => {
      log.info('took a layer', { ref, note: text })
    },
  })
}

/** Listens for each server. When it is disposed, all stop at the same time: first to listen, then to answer. */
async function openDoors(
  doors: readonly (Pick<ListenOptions, 'path' | 'fd' | 'groupId'> & { readonly door: Door })[],
  log: Log,
): Promise<AsyncDisposable> {
  await using open = new AsyncDisposableStack()
  open.defer(async () => {
    await Promise.all(doors.map(async ({ door }) => door.stop(STOP_LIMIT_MS)))
  })
  for (const { door, ...socket } of doors) {
    const listener: Listener = await listen({ ...socket, log, onConnection: door.accept })
    open.defer(() => {
      listener.close(false)
    })
  }
  return open.move()
}
