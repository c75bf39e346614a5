import { Server, ServerCredentials } from '@grpc/grpc-js'
import type { Server as NetServer } from 'node:net'
import { type Loam, openLoam } from 'loamfs'
import { Health } from '../gen/health_pb.js'
import { Snapshots } from '../gen/snapshots_pb.js'
import { healthService } from './health-service.ts'
import { listen } from './listener.ts'
import type { Log } from './log.ts'
import { defineService } from './service.ts'
import { snapshotsService } from './snapshots-service.ts'

/** As containerd has it. */
const MAX_MESSAGE_BYTES = 16 << 20
/** How long the daemon waits for calls in progress when it stops. */
const STOP_LIMIT_MS = 10_000

export interface DaemonOptions {
  readonly flags: Readonly<Record<string, string | boolean | undefined>>
  readonly configFile: string | undefined
  readonly socketPath: string
  readonly isRemote: boolean
  readonly env: Readonly<Record<string, string | undefined>>
  readonly log: Log
}

/** Serves one store to containerd until it is disposed. */
export class Daemon implements AsyncDisposable {
  readonly #loam: Loam
  readonly #server: Server
  readonly #listener: NetServer
  readonly #state: { isStopping: boolean }

  private constructor(loam: Loam, server: Server, listener: NetServer, state: { isStopping: boolean }) {
    this.#loam = loam
    this.#server = server
    this.#listener = listener
    this.#state = state
  }

  /** Opens the store and listens. @throws what opening and listening say */
  static async start({ flags, configFile, socketPath, isRemote, env, log }: DaemonOptions): Promise<Daemon> {
    const loam = await openLoam({ flags, file: configFile, env })
    for (const warning of loam.store.configuration.warnings) log.warn('read the settings', { error: warning })
    try {
      const report = await loam.recover()
      for (const { what, reason } of report.failed) log.warn('recover', { what, error: reason })
      const onLeft = ({ ref, reason }: { ref: string; reason: string }) => {
        log.warn('left a layer to containerd', { ref, reason })
      }
      const onNote = ({ ref, text }: { ref: string; text: string }) => {
        log.info('took a layer', { ref, note: text })
      }
      const snapshotter = loam.snapshots.open({ isRemote, onLeft, onNote })
      const state = { isStopping: false }
      const server = new Server({
        'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
        'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
      })
      server.addService(defineService(Snapshots), snapshotsService(snapshotter, log))
      server.addService(
        defineService(Health),
        healthService([Snapshots.typeName], () => state.isStopping, log),
      )
      const injector = server.createConnectionInjector(ServerCredentials.createInsecure())
      const listener = await listen({
        path: socketPath,
        env,
        log,
        onConnection: (socket) => {
          injector.injectConnection(socket)
        },
      })
      return new Daemon(loam, server, listener, state)
    } catch (error) {
      await loam[Symbol.asyncDispose]()
      throw error
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#state.isStopping = true
    this.#listener.close()
    const { promise, resolve } = Promise.withResolvers<void>()
    const limit = setTimeout(resolve, STOP_LIMIT_MS)
    this.#server.tryShutdown(() => {
      resolve()
    })
    await promise
    clearTimeout(limit)
    this.#server.forceShutdown()
    await this.#loam[Symbol.asyncDispose]()
  }
}
