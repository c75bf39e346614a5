import { listen, type Listener, type ListenOptions } from './listener.ts'
import type { Log } from './log.ts'
import type { PassedSocket, SocketName } from './systemd/passed-sockets.ts'

/** How a server stops. */
export interface StopOptions {
  /** Time that calls in progress have; those that have not ended then are canceled. */
  readonly limitMs: number
  /** How long connections without a call are kept: a client may be sending its next one, which is answered. */
  readonly lingerMs: number
}

/** A server whose connections come from a listener. */
export interface DoorServer {
  readonly accept: ListenOptions['onConnection']
  readonly stop: (options: StopOptions) => Promise<void>
}

/** A server and its listener. */
export interface Door extends Pick<ListenOptions, 'path' | 'passed' | 'groupId'> {
  readonly server: DoorServer
}

/** One for each socket. That of the CSI driver is there if it is configured. */
type Sockets<Each> = Readonly<Record<Exclude<SocketName, 'csi'>, Each> & Partial<Record<'csi', Each>>>

/** The open sockets of the daemon. */
export class Doors {
  readonly #servers: readonly DoorServer[]
  readonly #listeners: Sockets<Listener>
  #isClosed = false

  private constructor(servers: readonly DoorServer[], listeners: Sockets<Listener>) {
    this.#servers = servers
    this.#listeners = listeners
  }

  /** Listens for each server. @throws as `listen`; nothing listens then */
  static async open(doors: Sockets<Door>, log: Log): Promise<Doors> {
    const open: Listener[] = []
    const listenAt = async ({ server, ...socket }: Door) => {
      const listener = await listen({ ...socket, log, onConnection: server.accept })
      open.push(listener)
      return listener
    }
    try {
      const snapshotter = await listenAt(doors.snapshotter)
      const api = await listenAt(doors.api)
      const images = await listenAt(doors['image-service'])
      const csi = doors.csi === undefined ? {} : { csi: await listenAt(doors.csi) }
      const servers = Object.values(doors).map(({ server }) => server)
      return new Doors(servers, { snapshotter, api, 'image-service': images, ...csi })
    } catch (error) {
      for (const listener of open) listener.close(false)
      throw error
    }
  }

  /** The sockets, for a daemon that takes over. */
  get sockets(): Sockets<PassedSocket> {
    return this.#listeners
  }

  /** Accepts no more connections, and stops all servers at the same time. With `keepPaths` the sockets stay for a daemon that has taken over. May be called again, with shorter times. */
  async stop({
    keepPaths = false,
    ...options
  }: StopOptions & { readonly keepPaths?: boolean }): Promise<void> {
    if (!this.#isClosed) {
      this.#isClosed = true
      for (const listener of Object.values(this.#listeners)) listener.close(keepPaths)
    }
    const stops = await Promise.allSettled(this.#servers.map(async (server) => server.stop(options)))
    // One that fails must not cut the calls of the other one short.
    for (const stop of stops) if (stop.status === 'rejected') throw stop.reason
  }
}
