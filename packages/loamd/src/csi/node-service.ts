import { create } from '@bufbuild/protobuf'
import type { UntypedServiceImplementation } from '@grpc/grpc-js'
import {
  Node,
  NodeGetCapabilitiesResponseSchema,
  NodeGetInfoResponseSchema,
  NodeGetVolumeStatsResponseSchema,
  NodePublishVolumeResponseSchema,
  NodeServiceCapability_RPC_Type as Rpc,
  NodeUnpublishVolumeResponseSchema,
  VolumeUsage_Unit as Unit,
} from '../../gen/csi_pb.js'
import { type CallObserver, unary } from '../service.ts'
import { resolveTarget } from './target.ts'
import { invalid, parseVolumeRequest } from './volume-request.ts'
import type { CsiVolumes } from './volumes.ts'

/** Answers the calls of CSI's node service. Volumes are published directly: calls that stage or expand them are left out, and get UNIMPLEMENTED. */
export function nodeService(
  nodeId: string,
  volumes: CsiVolumes,
  calls: CallObserver,
): UntypedServiceImplementation {
  const { method } = Node
  return {
    nodeGetInfo: unary(method.nodeGetInfo, calls, () => create(NodeGetInfoResponseSchema, { nodeId })),
    nodeGetCapabilities: unary(method.nodeGetCapabilities, calls, () =>
      create(NodeGetCapabilitiesResponseSchema, {
        capabilities: [{ type: { case: 'rpc', value: { type: Rpc.GET_VOLUME_STATS } } }],
      }),
    ),
    nodePublishVolume: unary(method.nodePublishVolume, calls, async (request, { signal }) => {
      requirePath(request.targetPath, 'target_path')
      const volume = parseVolumeRequest(request)
      await volumes.publish(volume, resolveTarget(request.targetPath, 'target_path'), signal)
      return create(NodePublishVolumeResponseSchema)
    }),
    nodeUnpublishVolume: unary(method.nodeUnpublishVolume, calls, async ({ volumeId, targetPath }) => {
      requireVolumeId(volumeId)
      requirePath(targetPath, 'target_path')
      await volumes.unpublish(volumeId, targetPath)
      return create(NodeUnpublishVolumeResponseSchema)
    }),
    nodeGetVolumeStats: unary(
      method.nodeGetVolumeStats,
      calls,
      async ({ volumeId, volumePath }, { signal }) => {
        requireVolumeId(volumeId)
        requirePath(volumePath, 'volume_path')
        const { bytes, inodes } = await volumes.stats(
          volumeId,
          resolveTarget(volumePath, 'volume_path'),
          signal,
        )
        const usage = [
          { unit: Unit.BYTES, ...bytes },
          { unit: Unit.INODES, ...inodes },
        ]
        return create(NodeGetVolumeStatsResponseSchema, { usage })
      },
    ),
  }
}

function requireVolumeId(volumeId: string): void {
  if (volumeId === '') throw invalid('volume_id', 'it is missing')
}

function requirePath(path: string, field: string): void {
  if (path === '') throw invalid(field, 'it is missing')
}
