// A client of the snapshots API, like containerd.
import {
  create,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
  type DescMessage,
} from '@bufbuild/protobuf'
import { Client as GrpcClient, credentials, type ServiceError } from '@grpc/grpc-js'
import { Health } from '../../gen/health_pb.js'
import { type Info, Snapshots } from '../../gen/snapshots_pb.js'

const { method } = Snapshots

type Output<Name extends keyof typeof method> = MessageShape<(typeof method)[Name]['output']>

/** One connection to a daemon. Calls fail with grpc-js's ServiceError, which has a code. */
export class Client {
  readonly #client: GrpcClient

  constructor(socket: string) {
    this.#client = new GrpcClient(`unix://${socket}`, credentials.createInsecure(), {
      'grpc.max_send_message_length': -1,
      // A channel of its own for each client.
      'grpc.use_local_subchannel_pool': 1,
    })
  }

  async call<Input extends DescMessage, Result extends DescMessage>(
    path: string,
    schemas: { readonly input: Input; readonly output: Result },
    request: MessageInitShape<Input>,
  ): Promise<MessageShape<Result>> {
    const { promise, resolve, reject } = Promise.withResolvers<MessageShape<Result>>()
    this.#client.makeUnaryRequest(
      path,
      (message: MessageShape<Input>) => Buffer.from(toBinary(schemas.input, message)),
      (bytes: Buffer) => fromBinary(schemas.output, bytes),
      create(schemas.input, request),
      { deadline: Date.now() + 60_000 },
      (error: ServiceError | null, response?: MessageShape<Result>) => {
        if (error !== null) reject(error)
        else if (response !== undefined) resolve(response)
      },
    )
    return promise
  }

  async prepare(key: string, parent = '', labels: Record<string, string> = {}): Promise<Output<'prepare'>> {
    return this.call(pathOf('Prepare'), method.prepare, { key, parent, labels })
  }

  async view(key: string, parent = ''): Promise<Output<'view'>> {
    return this.call(pathOf('View'), method.view, { key, parent })
  }

  async mounts(key: string): Promise<Output<'mounts'>> {
    return this.call(pathOf('Mounts'), method.mounts, { key })
  }

  async commit(name: string, key: string, labels: Record<string, string> = {}): Promise<Output<'commit'>> {
    return this.call(pathOf('Commit'), method.commit, { name, key, labels })
  }

  async remove(key: string): Promise<Output<'remove'>> {
    return this.call(pathOf('Remove'), method.remove, { key })
  }

  async stat(key: string): Promise<Output<'stat'>> {
    return this.call(pathOf('Stat'), method.stat, { key })
  }

  async update(
    name: string,
    labels: Record<string, string>,
    paths: string[] = [],
  ): Promise<Output<'update'>> {
    return this.call(pathOf('Update'), method.update, { info: { name, labels }, updateMask: { paths } })
  }

  async usage(key: string): Promise<Output<'usage'>> {
    return this.call(pathOf('Usage'), method.usage, { key })
  }

  async cleanup(): Promise<Output<'cleanup'>> {
    return this.call(pathOf('Cleanup'), method.cleanup, {})
  }

  async health(service = ''): Promise<MessageShape<typeof Health.method.check.output>> {
    return this.call(`/${Health.typeName}/Check`, Health.method.check, { service })
  }

  /** Sizes of the messages of a list, and all of their content. */
  async listBatches(filters: string[] = []): Promise<Info[][]> {
    const stream = this.#client.makeServerStreamRequest(
      pathOf('List'),
      (message: MessageShape<typeof method.list.input>) => Buffer.from(toBinary(method.list.input, message)),
      (bytes: Buffer) => fromBinary(method.list.output, bytes),
      create(method.list.input, { filters }),
      { deadline: Date.now() + 60_000 },
    )
    const batches: Info[][] = []
    for await (const { info } of stream as AsyncIterable<{ info: Info[] }>) batches.push(info)
    return batches
  }

  async list(filters: string[] = []): Promise<Info[]> {
    return (await this.listBatches(filters)).flat()
  }

  close(): void {
    this.#client.close()
  }
}

function pathOf(name: string): string {
  return `/${Snapshots.typeName}/${name}`
}
