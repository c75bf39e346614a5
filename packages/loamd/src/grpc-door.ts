import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Server, ServerCredentials } from '@grpc/grpc-js'
import type { DoorServer } from './doors.ts'

/** Makes a server of gRPC that has no listener: connections come by `accept`. */
export function grpcDoor(server: Server): DoorServer {
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure())
  const connections = new Set<Socket>()
  return {
    accept: (socket) => {
      connections.add(socket)
      socket.once('close', () => connections.delete(socket))
      injector.injectConnection(socket)
    },
    stop: async ({ limitMs }) => {
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
