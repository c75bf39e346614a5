import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { Server, ServerCredentials } from '@grpc/grpc-js'
import { Diff } from '../gen/diff_pb.js'
import { Health } from '../gen/health_pb.js'
import { Snapshots } from '../gen/snapshots_pb.js'
import { diffService, type DiffServiceOptions } from './diff-service.ts'
import type { DoorServer } from './doors.ts'
import { healthService } from './health-service.ts'
import { type CallObserver, defineService } from './service.ts'
import { snapshotsService } from './snapshots-service.ts'

/** The same limit as in containerd. */
const MAX_MESSAGE_BYTES = 16 << 20

/** What containerd's APIs are served from. */
export type GrpcParts = DiffServiceOptions

/** Creates the server of containerd's APIs of snapshots and diffs. It has no listener: connections come by `accept`. */
export function createGrpcServer(parts: GrpcParts, calls: CallObserver): DoorServer {
  let isStopping = false
  const server = new Server({
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  })
  server.addService(defineService(Snapshots), snapshotsService(parts.snapshotter, calls))
  server.addService(defineService(Diff), diffService(parts, calls))
  server.addService(
    defineService(Health),
    healthService([Snapshots.typeName, Diff.typeName], () => isStopping, calls),
  )
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure())
  const connections = new Set<Socket>()
  return {
    accept: (socket) => {
      connections.add(socket)
      socket.once('close', () => connections.delete(socket))
      injector.injectConnection(socket)
    },
    stop: async ({ limitMs }) => {
      isStopping = true
      // `tryShutdown` does not wait for calls in progress: with the Node of today it takes a session that is closing for one that is closed.
      injector.drain(limitMs)
      const limit = new AbortController()
      await Promise.race([Promise.all([...connections].map(closed)), sleep(limitMs, undefined, limit)])
      limit.abort()
      server.forceShutdown()
    },
  }
}

/** Waits until a connection is closed, also by an error. */
async function closed(socket: Socket): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  socket.once('close', () => {
    resolve()
  })
  return promise
}
