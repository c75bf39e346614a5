// A client of the CSI driver, like the kubelet and the sidecars of Kubernetes.
import assert from 'node:assert/strict'
import { create, fromBinary, type MessageInitShape, type MessageShape, toBinary } from '@bufbuild/protobuf'
import type { DescMethod } from '@bufbuild/protobuf'
import { Client as GrpcClient, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js'
import {
  type VolumeCapability,
  VolumeCapability_AccessMode_Mode as Mode,
  VolumeCapability_MountVolumeSchema,
  VolumeCapabilitySchema,
} from '../../gen/csi_pb.js'

const CALL_LIMIT_MS = 60_000

/** How a volume is to be used; by default as the kubelet asks for a volume of one pod. */
export function capability(
  mode = Mode.SINGLE_NODE_WRITER,
  mount: MessageInitShape<typeof VolumeCapability_MountVolumeSchema> = {},
): VolumeCapability {
  const value = create(VolumeCapability_MountVolumeSchema, mount)
  return create(VolumeCapabilitySchema, { accessType: { case: 'mount', value }, accessMode: { mode } })
}

/** Asserts that a call fails with a status, and a text that matches. */
export async function failsWith(act: Promise<unknown>, code: status, text = /./): Promise<void> {
  await assert.rejects(act, (error) => {
    assert.ok(error instanceof Error && 'code' in error)
    assert.equal(status[Number(error.code)], status[code], error.message)
    assert.match(error.message, text)
    return true
  })
}

/** One connection to a driver. Calls fail with grpc-js's ServiceError, which has a code. */
export class CsiClient implements Disposable {
  readonly #client: GrpcClient

  constructor(socket: string) {
    this.#client = new GrpcClient(`unix://${socket}`, credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
      // An open connection holds a daemon that stops, and a closed channel keeps its own for some seconds.
      'grpc.client_idle_timeout_ms': 1000,
    })
  }

  async call<Method extends DescMethod>(
    method: Method,
    request: MessageInitShape<Method['input']>,
    limitMs = CALL_LIMIT_MS,
  ): Promise<MessageShape<Method['output']>> {
    const { promise, resolve, reject } = Promise.withResolvers<MessageShape<Method['output']>>()
    this.#client.makeUnaryRequest(
      `/${method.parent.typeName}/${method.name}`,
      (message: MessageShape<Method['input']>) =>
        Buffer.from(toBinary<Method['input']>(method.input, message)),
      (bytes: Buffer) => fromBinary<Method['output']>(method.output, bytes),
      create<Method['input']>(method.input, request),
      new Metadata(),
      { deadline: Date.now() + limitMs },
      (error: ServiceError | null, response?: MessageShape<Method['output']>) => {
        if (error !== null) reject(error)
        else if (response !== undefined) resolve(response)
      },
    )
    return promise
  }

  [Symbol.dispose](): void {
    this.#client.close()
  }
}
