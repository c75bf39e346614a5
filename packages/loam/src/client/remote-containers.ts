import { randomBytes } from 'node:crypto'
import type {
  Containers,
  DestroyOptions,
  MountedVolume,
  MesosContainer,
  ProvisionedContainer,
  ProvisionedImage,
  ProvisionedVolume,
  ProvisionImageOptions,
  RecoverOptions,
  RunStarter,
  SpawnedProcess,
  SpawnImageOptions,
  UnexportOptions,
  VolumeOptions,
} from '../containers/index.ts'
import { isLoamError, LoamError } from '../errors/index.ts'
import type { ExportOptions, UnexportedImages } from '../exports/index.ts'
import type { ImageRequest } from '../image/index.ts'
import type { ImageOptions } from '../images/index.ts'
import type { ContainerInfo, RecoveryReport } from '../provisioner/index.ts'
import {
  absolute,
  absoluteImage,
  descriptorOf,
  streamTo,
  type RemoteFetchOptions,
  toFetchFields,
  toImageFields,
} from './requests.ts'
import { RemoteFiles, RemoteProcesses } from './remote-processes.ts'
import { removeRemotely, runRemotely } from './remote-run.ts'
import { type RemoteRunOptions, toRunFields } from './run-fields.ts'
import type { Transport } from './transport.ts'

type Remote<Options extends ImageOptions> = RemoteFetchOptions<Options>

/** Operations on the containers of a daemon's store: those of `Containers`, with the same results and errors. */
export class RemoteContainers
  implements Omit<Pick<Containers, keyof Containers>, 'runtimePaths' | 'processes' | 'files'>
{
  readonly #transport: Transport

  /** Operations on the processes of containers. */
  readonly processes: RemoteProcesses
  /** Operations on the files of containers; paths of a machine are those of the daemon's. */
  readonly files: RemoteFiles

  /** @internal */
  constructor(transport: Transport) {
    this.#transport = transport
    this.processes = new RemoteProcesses(transport)
    this.files = new RemoteFiles(transport)
  }

  /** Creates a root filesystem, as `Containers.provision`. */
  async provision(
    image: string | ImageRequest,
    options: Remote<ProvisionImageOptions> = {},
  ): Promise<ProvisionedImage> {
    const request = { ...toProvisionFields(options), image: absoluteImage(image) }
    return this.#transport.call('containers.provision', request, options)
  }

  /** Creates the image volumes of a container, as `Containers.provisionVolumes`. */
  async provisionVolumes(
    volumes: readonly MountedVolume[],
    options: Remote<VolumeOptions>,
  ): Promise<ProvisionedVolume[]> {
    const { id, sandbox, backend, refresh, userNamespace, lazy } = options
    const request = {
      ...toImageFields(options),
      backend,
      refresh,
      userNamespace,
      lazy,
      id,
      sandbox: absolute(sandbox),
      volumes: absoluteVolumes(volumes),
    }
    return [...(await this.#transport.call('containers.provisionVolumes', request, options))]
  }

  /** Creates the root filesystem of a container with its volumes, as `Containers.provisionContainer`. */
  async provisionContainer(
    { image, volumes, hostMounts }: MesosContainer,
    options: Remote<ProvisionImageOptions> = {},
  ): Promise<ProvisionedContainer> {
    const request = {
      ...toProvisionFields(options),
      image: image === undefined ? undefined : absoluteImage(image),
      volumes: absoluteVolumes(volumes),
      hostMounts,
    }
    return this.#transport.call('containers.provisionContainer', request, options)
  }

  /**
   * Runs a process in a new root filesystem, as `Containers.run`: the daemon creates the root filesystem and removes it, and this process starts the OCI
   * runtime, with its own streams, terminal and signals. `env` takes values from the environment of this process. The signal cancels what precedes
   * the start. If the daemon ends while the process runs, the container is removed by the next one. @throws PERMISSION_DENIED for a daemon of another
   * user; DAEMON_LOST, with the container's `id` and the `status` of the process in its details, if no daemon has removed the container within 30 s
   */
  async run(image: string | ImageRequest, options: RemoteRunOptions = {}): Promise<number> {
    return this.#run(image, options)
  }

  /**
   * Starts a process in a new root filesystem, as `Containers.spawn`: this process starts the OCI runtime, with the streams of the handle. @throws as
   * `run`
   */
  async spawn(
    image: string | ImageRequest,
    options: Remote<SpawnImageOptions> = {},
  ): Promise<SpawnedProcess> {
    const { spawnProcess } = await import('../containers/index.ts')
    return spawnProcess(options, async (starter) => this.#run(image, options, starter))
  }

  async #run(image: string | ImageRequest, options: RemoteRunOptions, starter?: RunStarter): Promise<number> {
    this.#transport.requireOwnUser('containers.run')
    const { boundingCapabilities } = await import('../linux/index.ts')
    const { id = randomBytes(6).toString('hex'), keep, detach, onStart, onEvent, signal } = options
    const request = {
      ...toProvisionFields(options),
      ...toRunFields(options),
      capabilities: boundingCapabilities().toString(16),
      image: absoluteImage(image),
      id,
    }
    const stays = keep === true || detach === true
    const onLost = async (ended: object | undefined) => {
      // A container with a given ID that was not started may be another client's.
      const isOwn = ended !== undefined || options.id === undefined
      return stays || (isOwn && (await removeRemotely(this.#transport, id)))
    }
    const callbacks = { onStart, onEvent, signal, starter, onLost }
    return runRemotely(this.#transport, 'containers.run', request, callbacks)
  }

  /** Destroys a container, as `Containers.destroy`. */
  async destroy(id: string, { signal }: DestroyOptions = {}): Promise<boolean> {
    const { destroyed } = await this.#transport.call('containers.destroy', { id }, { signal })
    return destroyed
  }

  /** Lists the containers that have root filesystems. */
  async list(): Promise<ContainerInfo[]> {
    return [...(await this.#transport.call('containers.list', {}))]
  }

  /** Finds a container by its id. */
  async find(id: string): Promise<ContainerInfo | undefined> {
    try {
      return await this.#transport.call('containers.inspect', { id })
    } catch (error) {
      if (isLoamError(error, 'CONTAINER_NOT_FOUND')) return undefined
      throw error
    }
  }

  /** Cleans up after a crash, as `Containers.recover`. */
  async recover(options: Remote<RecoverOptions> = {}): Promise<RecoveryReport> {
    const { known } = options
    return this.#transport.call('containers.recover', { ...toFetchFields(options), known }, options)
  }

  /** Writes an image or a container, as `Containers.export`: `-` is standard output of this process, /dev/fd/N a descriptor of it, everything else a file that the daemon writes. */
  async export(name: string, options: Remote<ExportOptions & ImageOptions>): Promise<void> {
    const { format, output, sizeBytes, latestMs, force, mode, signal } = options
    const request = { ...toImageFields(options), name: absoluteImage(name), format, sizeBytes, latestMs }
    const descriptor = descriptorOf(output)
    if (descriptor === undefined) {
      const file = absolute(output.replace(/^oci:(?=.)/, format === 'oci' ? '' : 'oci:'))
      await this.#transport.call(
        'containers.export',
        { ...request, format, output: file, force, mode },
        options,
      )
      return
    }
    if (format === 'containers-storage')
      throw new LoamError('USAGE', `export to ${output}: an image store is a directory`)
    if (format === 'containerd-cache')
      throw new LoamError('USAGE', `export to ${output}: a cache of containerd is a directory`)
    await this.#transport.downloadTo(
      'containers.download',
      { ...request, format },
      () => streamTo(descriptor),
      signal,
    )
  }

  /** Removes images from an additional image store, as `Containers.unexport`. */
  async unexport(directory: string, { image }: UnexportOptions = {}): Promise<UnexportedImages> {
    const request = {
      directory: absolute(directory),
      ...(image === undefined ? {} : { image: absoluteImage(image) }),
    }
    return this.#transport.call('containers.unexport', request)
  }
}

function toProvisionFields(options: Remote<ProvisionImageOptions>) {
  const { id, backend, isReadOnly, sizeBytes, refresh, userNamespace, lazy, lazyIndex } = options
  return {
    ...toImageFields(options),
    id,
    backend,
    isReadOnly,
    sizeBytes,
    refresh,
    userNamespace,
    lazy,
    lazyIndex,
  }
}

function absoluteVolumes(volumes: readonly MountedVolume[]): MountedVolume[] {
  return volumes.map((volume) => ({ ...volume, image: absoluteImage(volume.image) }))
}
