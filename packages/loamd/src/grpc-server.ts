import { Server } from '@grpc/grpc-js'
import { Diff } from '../gen/diff_pb.js'
import { Health } from '../gen/health_pb.js'
import { Snapshots } from '../gen/snapshots_pb.js'
import { diffService, type DiffServiceOptions } from './diff-service.ts'
import type { DoorServer } from './doors.ts'
import { grpcDoor } from './grpc-door.ts'
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
  const door = grpcDoor(server)
  return {
    accept: door.accept,
    stop: async (options) => {
      isStopping = true
      await door.stop(options)
    },
  }
}
