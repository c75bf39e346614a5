// A client of containerd's CRI, like kubelet.
import { fileURLToPath } from 'node:url'
import {
  credentials,
  loadPackageDefinition,
  type ServiceClientConstructor,
  type ServiceError,
} from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'

const LIMIT_MS = 120_000
const PROTO = fileURLToPath(new URL('cri.proto', import.meta.url))

/** IDs that are mapped, as CRI names them. */
interface IdRange {
  readonly host_id: number
  readonly container_id: number
  readonly length: number
}

interface Pod {
  readonly id: string
  readonly config: { readonly linux: object }
}

interface ContainerOptions {
  readonly image: string
  readonly command: readonly string[]
  /** Images that are mounted, by their paths in the container. */
  readonly images?: Readonly<Record<string, string>>
}

/** The credentials of a pull. */
interface AuthConfig {
  readonly username?: string
  readonly password?: string
  /** base64 of user:password. */
  readonly auth?: string
  readonly server_address?: string
}

/** One connection to containerd. Calls fail with grpc-js's ServiceError. */
export class Cri {
  readonly #images: InstanceType<ServiceClientConstructor>
  readonly #runtime: InstanceType<ServiceClientConstructor>
  readonly #logs: string
  #names = 0

  /** Logs of containers are written to a folder. Images are pulled at a socket of their own if one is given. */
  constructor(socket: string, logs: string, imageSocket = socket) {
    const definition = loadSync(PROTO, { keepCase: true, longs: Number, enums: String, defaults: true })
    const { runtime } = loadPackageDefinition(definition) as unknown as {
      runtime: { v1: Record<'ImageService' | 'RuntimeService', ServiceClientConstructor> }
    }
    const channel = { 'grpc.use_local_subchannel_pool': 1 }
    const insecure = credentials.createInsecure()
    this.#images = new runtime.v1.ImageService(`unix://${imageSocket}`, insecure, channel)
    this.#runtime = new runtime.v1.RuntimeService(`unix://${socket}`, insecure, channel)
    this.#logs = logs
  }

  /** Whether CRI answers: it starts after containerd's other services. */
  async isReady(): Promise<boolean> {
    return this.imageFileSystem().then(
      () => true,
      () => false,
    )
  }

  async pull(image: string, auth?: AuthConfig): Promise<string> {
    const { image_ref: reference } = await this.#call<{ image_ref: string }>(this.#images, 'PullImage', {
      image: { image },
      auth,
    })
    return reference
  }

  async removeImage(image: string): Promise<void> {
    await this.#call(this.#images, 'RemoveImage', { image: { image } })
  }

  /** Directory and used bytes of the file system of images. */
  async imageFileSystem(): Promise<{ path: string; usedBytes: number }> {
    const { image_filesystems: systems } = await this.#call<{
      image_filesystems: { fs_id: { mountpoint: string }; used_bytes: { value: number } }[]
    }>(this.#images, 'ImageFsInfo', {})
    const [first] = systems
    return { path: first?.fs_id.mountpoint ?? '', usedBytes: first?.used_bytes.value ?? 0 }
  }

  /** Runs a pod in the network of the machine, which needs no CNI; with ID mappings in a user namespace, and a network of its own. */
  async runPod(mappings?: readonly IdRange[]): Promise<Pod> {
    const options =
      mappings === undefined
        ? { network: 'NODE' }
        : { network: 'POD', userns_options: { mode: 'POD', uids: mappings, gids: mappings } }
    const name = `pod${(this.#names += 1)}`
    const config = {
      metadata: { name, uid: name, namespace: 'test' },
      log_directory: this.#logs,
      linux: { security_context: { namespace_options: options } },
    }
    const { pod_sandbox_id: id } = await this.#call<{ pod_sandbox_id: string }>(
      this.#runtime,
      'RunPodSandbox',
      { config },
    )
    return { id, config }
  }

  async removePod({ id }: Pod): Promise<void> {
    await this.#call(this.#runtime, 'StopPodSandbox', { pod_sandbox_id: id })
    await this.#call(this.#runtime, 'RemovePodSandbox', { pod_sandbox_id: id })
  }

  /** Creates and starts a container. Returns its ID. */
  async startContainer(pod: Pod, { image, command, images = {} }: ContainerOptions): Promise<string> {
    const name = `container${(this.#names += 1)}`
    const mounts = Object.entries(images).map(([path, mounted]) => ({
      container_path: path,
      readonly: true,
      image: { image: mounted },
    }))
    const { container_id: id } = await this.#call<{ container_id: string }>(
      this.#runtime,
      'CreateContainer',
      {
        pod_sandbox_id: pod.id,
        config: {
          metadata: { name },
          image: { image },
          command,
          mounts,
          log_path: `${name}.log`,
          linux: pod.config.linux,
        },
        sandbox_config: pod.config,
      },
    )
    await this.#call(this.#runtime, 'StartContainer', { container_id: id })
    return id
  }

  async removeContainer(id: string): Promise<void> {
    await this.#call(this.#runtime, 'StopContainer', { container_id: id })
    await this.#call(this.#runtime, 'RemoveContainer', { container_id: id })
  }

  /** Runs a command in a container, and returns its output. */
  async exec(id: string, ...cmd: readonly string[]): Promise<string> {
    const {
      stdout,
      stderr,
      exit_code: status,
    } = await this.#call<{
      stdout: Buffer
      stderr: Buffer
      exit_code: number
    }>(this.#runtime, 'ExecSync', { container_id: id, cmd, timeout: 60 })
    if (status !== 0) throw new Error(`${cmd.join(' ')} failed: ${stderr.toString()}`)
    return stdout.toString()
  }

  close(): void {
    this.#images.close()
    this.#runtime.close()
  }

  async #call<Response>(
    client: InstanceType<ServiceClientConstructor>,
    method: string,
    request: object,
  ): Promise<Response> {
    const { promise, resolve, reject } = Promise.withResolvers<Response>()
    const answer = (error: ServiceError | null, response: Response) => {
      if (error === null) resolve(response)
      else reject(error)
    }
    client[method]?.(request, { deadline: Date.now() + LIMIT_MS }, answer)
    return promise
  }
}
