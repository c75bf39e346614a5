import { isDeepStrictEqual } from 'node:util'
import { create } from '@bufbuild/protobuf'
import type { UntypedServiceImplementation } from '@grpc/grpc-js'
import { LoamError } from 'loamfs'
import {
  Controller,
  ControllerGetCapabilitiesResponseSchema,
  ControllerServiceCapability_RPC_Type as Rpc,
  CreateVolumeResponseSchema,
  DeleteVolumeResponseSchema,
  ValidateVolumeCapabilitiesResponseSchema,
  type VolumeCapability,
} from '../../gen/csi_pb.js'
import { type CallObserver, unary } from '../service.ts'
import { invalid, parseVolumeContent, requireCapability } from './volume-request.ts'

/**
 * Answers the calls of CSI's controller service that tests of drivers make. A volume is nothing but its name and its attributes, so nothing is created.
 * Clusters do not need it: their administrators write persistent volumes themselves.
 */
export function controllerService(calls: CallObserver): UntypedServiceImplementation {
  const { method } = Controller
  const created = new CreatedVolumes()
  return {
    controllerGetCapabilities: unary(method.controllerGetCapabilities, calls, () =>
      create(ControllerGetCapabilitiesResponseSchema, {
        capabilities: [{ type: { case: 'rpc', value: { type: Rpc.CREATE_DELETE_VOLUME } } }],
      }),
    ),
    createVolume: unary(method.createVolume, calls, (request) => {
      const { name, volumeCapabilities, parameters, capacityRange, volumeContentSource } = request
      if (name === '') throw invalid('name', 'it is missing')
      requireCapabilities(volumeCapabilities)
      if (volumeContentSource !== undefined) throw invalid('volume_content_source', 'the image is the source')
      parseVolumeContent(parameters)
      const capacityBytes = capacityRange?.requiredBytes ?? 0n
      created.put(name, { parameters, capacityBytes })
      return create(CreateVolumeResponseSchema, {
        volume: { volumeId: name, volumeContext: parameters, capacityBytes },
      })
    }),
    deleteVolume: unary(method.deleteVolume, calls, ({ volumeId }) => {
      if (volumeId === '') throw invalid('volume_id', 'it is missing')
      created.delete(volumeId)
      return create(DeleteVolumeResponseSchema)
    }),
    validateVolumeCapabilities: unary(method.validateVolumeCapabilities, calls, (request) => {
      const { volumeId, volumeCapabilities, volumeContext, parameters } = request
      if (volumeId === '') throw invalid('volume_id', 'it is missing')
      requireList(volumeCapabilities)
      created.require(volumeId)
      try {
        requireCapabilities(volumeCapabilities)
      } catch (error) {
        if (!(error instanceof LoamError)) throw error
        return create(ValidateVolumeCapabilitiesResponseSchema, { message: error.message })
      }
      const confirmed = { volumeCapabilities, volumeContext, parameters }
      return create(ValidateVolumeCapabilitiesResponseSchema, { confirmed })
    }),
  }
}

function requireCapabilities(capabilities: readonly VolumeCapability[]): void {
  requireList(capabilities)
  for (const capability of capabilities) requireCapability(capability)
}

function requireList(capabilities: readonly VolumeCapability[]): void {
  if (capabilities.length === 0) throw invalid('volume_capabilities', 'it is missing')
}

/** How a volume was created. */
interface CreatedVolume {
  readonly parameters: Readonly<Record<string, string>>
  readonly capacityBytes: bigint
}

/** The volumes that were created since the daemon began. */
class CreatedVolumes {
  readonly #volumes = new Map<string, CreatedVolume>()

  /** @throws VOLUME_EXISTS for a name that was created in another way */
  put(name: string, volume: CreatedVolume): void {
    const before = this.#volumes.get(name)
    if (before !== undefined && !isDeepStrictEqual(before, volume))
      throw new LoamError('VOLUME_EXISTS', `create ${name}: it exists with other parameters`)
    this.#volumes.set(name, volume)
  }

  /** @throws VOLUME_NOT_FOUND */
  require(name: string): void {
    if (!this.#volumes.has(name))
      throw new LoamError('VOLUME_NOT_FOUND', `find ${name}: no such volume was created`)
  }

  delete(name: string): void {
    this.#volumes.delete(name)
  }
}
