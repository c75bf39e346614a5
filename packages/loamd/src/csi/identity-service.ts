import { create, type MessageInitShape } from '@bufbuild/protobuf'
import type { UntypedServiceImplementation } from '@grpc/grpc-js'
import {
  GetPluginCapabilitiesResponseSchema,
  GetPluginInfoResponseSchema,
  Identity,
  PluginCapability_Service_Type,
  type PluginCapabilitySchema,
  ProbeResponseSchema,
} from '../../gen/csi_pb.js'
import { type CallObserver, unary } from '../service.ts'

/** How the driver describes itself. */
export interface DriverIdentity {
  /** Name of the driver, which volumes refer to. */
  readonly name: string
  readonly version: string
  /** Whether it has the controller service, which only tests need. */
  readonly hasController: boolean
}

/** Answers the calls of CSI's identity service. `check` shows that the store answers. */
export function identityService(
  { name, version, hasController }: DriverIdentity,
  check: () => Promise<void>,
  calls: CallObserver,
): UntypedServiceImplementation {
  const { method } = Identity
  const controller: MessageInitShape<typeof PluginCapabilitySchema> = {
    type: { case: 'service', value: { type: PluginCapability_Service_Type.CONTROLLER_SERVICE } },
  }
  return {
    getPluginInfo: unary(method.getPluginInfo, calls, () =>
      create(GetPluginInfoResponseSchema, { name, vendorVersion: version }),
    ),
    getPluginCapabilities: unary(method.getPluginCapabilities, calls, () =>
      create(GetPluginCapabilitiesResponseSchema, { capabilities: hasController ? [controller] : [] }),
    ),
    probe: unary(method.probe, calls, async () => {
      await check()
      return create(ProbeResponseSchema, { ready: true })
    }),
  }
}
