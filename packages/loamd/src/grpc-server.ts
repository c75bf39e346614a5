import { Server, ServerCredentials } from '@grpc/grpc-js'
import type { Socket } from 'node:net'
import type { Snapshotter } from 'loamfs'
import { Health } from '../gen/health_pb.js'
import { Snapshots } from '../gen/snapshots_pb.js'
import { healthService } from './health-service.ts'
import type { Log } from './log.ts'
import { defineService } from './service.ts'
import { snapshotsService } from './snapshots-service.ts'

/** As containerd has it. */
const MAX_MESSAGE_BYTES = 16 << 20

/** containerd's API of snapshots, on connections that a listener has accepted. */
export interface GrpcServer {
  /** Takes over a connection. */
  readonly accept: (socket: Socket) => void
  /** Stops: waits for calls in progress, and cancels those that are not done after `limitMs`. */
  readonly stop: (limitMs: number) => Promise<void>
}

/** Creates the server of containerd's API. It listens nowhere: connections come by `accept`. */
export function createGrpcServer(snapshotter: Snapshotter, log: Log): GrpcServer {
  let isStopping = false
  const server = new Server({
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  })
  server.addService(defineService(Snapshots), snapshotsService(snapshotter, log))
  server.addService(
    defineService(Health),
    healthService([Snapshots.typeName], () => isStopping, log),
  )
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure())
  return {
    accept: (socket) => {
      injector.injectConnection(socket)
    },
    stop: async (limitMs) => {
      isStopping = true
      const { promise, resolve } = Promise.withResolvers<void>()
      const limit = setTimeout(resolve, limitMs)
      server.tryShutdown(() => {
        resolve()
      })
      await promise
      clearTimeout(limit)
      server.forceShutdown()
    },
  }
}
