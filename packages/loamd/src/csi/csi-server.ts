import { Server } from '@grpc/grpc-js'
import { Controller, Identity, Node } from '../../gen/csi_pb.js'
import type { DoorServer } from '../doors.ts'
import { grpcDoor } from '../grpc-door.ts'
import { type CallObserver, defineService } from '../service.ts'
import { controllerService } from './controller-service.ts'
import { type DriverIdentity, identityService } from './identity-service.ts'
import { nodeService } from './node-service.ts'
import type { CsiVolumes } from './volumes.ts'

export interface CsiParts {
  readonly driver: DriverIdentity
  /** Name of this node in the cluster. */
  readonly nodeId: string
  readonly volumes: CsiVolumes
  /** Shows that the store answers. */
  readonly check: () => Promise<void>
}

/** Creates the server of the CSI driver. Connections come by `accept`. */
export function createCsiServer(
  { driver, nodeId, volumes, check }: CsiParts,
  calls: CallObserver,
): DoorServer {
  const server = new Server()
  server.addService(defineService(Identity), identityService(driver, check, calls))
  server.addService(defineService(Node), nodeService(nodeId, volumes, calls))
  if (driver.hasController) server.addService(defineService(Controller), controllerService(calls))
  const door = grpcDoor(server)
  return {
    ...door,
    stop: async (options) => {
      // The next call may come to a daemon that has taken over.
      volumes.endWithCalls()
      await door.stop(options)
    },
  }
}
