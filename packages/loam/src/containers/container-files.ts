import { closeSync } from 'node:fs'
import { isAbsolute, resolve } from 'node:path'
import type { Activity, OperationName } from '../activity/index.ts'
import type { Configuration } from '../config/index.ts'
import type { IngestArea } from '../content/index.ts'
import type { LayerStore } from '../layers/index.ts'
import { type ContainerId, parseContainerId } from '../metadata/index.ts'
import type { Provisioner } from '../provisioner/index.ts'
import { startReading } from '../streams/index.ts'
import { type CopyContainer, copyFrom, copyTo, findCopyContainer } from './copy-files.ts'
import type { RuntimePaths } from './oci-runtime.ts'
import type { CopyOptions, PackFilesOptions, UnpackFilesOptions } from './requests.ts'
import type { CopyReport } from './results.ts'
import { openUnpackTarget, packFrom, receiveTar, type StreamServices, unpackTo } from './stream-files.ts'

interface FileServices {
  readonly provisioner: Provisioner
  readonly activity: Activity
  readonly layers: Pick<LayerStore, 'trees'>
  readonly cwd: string
  readonly ingest: () => IngestArea
  readonly configuration: Pick<Configuration, 'values'>
}

/** Operations on the files of containers. All may be called concurrently, also by several processes. */
export class ContainerFiles {
  readonly #services: FileServices
  readonly #paths: RuntimePaths

  /** @internal */
  constructor(services: FileServices, paths: RuntimePaths) {
    this.#services = services
    this.#paths = paths
  }

  /**
   * Copies a file or a directory of a container to a path of this machine, by the rules of `docker cp`. The container may run; nothing that it does
   * meanwhile leads the copy out of its root filesystem or to another place of this machine.
   * @throws CONTAINER_NOT_FOUND, PATH_NOT_FOUND, USAGE for a mount of the container, and for a name that is in the way
   */
  async copyFrom(
    container: string,
    path: string,
    hostPath: string,
    options: CopyOptions = {},
  ): Promise<CopyReport> {
    return this.#copy('containers.copyFrom', container, options, async (subject) =>
      copyFrom(this.#services.layers, subject, [path, this.#absolute(hostPath)], options),
    )
  }

  /** Copies a file or a directory of this machine into a container, in the same way. @throws as `copyFrom` */
  async copyTo(
    container: string,
    hostPath: string,
    path: string,
    options: CopyOptions = {},
  ): Promise<CopyReport> {
    return this.#copy('containers.copyTo', container, options, async (subject) =>
      copyTo(this.#services.layers, subject, [this.#absolute(hostPath), path], options),
    )
  }

  /**
   * Writes a file or a directory of a container as one tar to a file; `-` is standard output, and descriptors, pipes and devices are written to. Owners are
   * those in the container. @throws as `copyFrom`, OUTPUT_EXISTS, OUTPUT_CLOSED
   */
  async pack(
    container: string,
    path: string,
    output: string,
    options: PackFilesOptions = {},
  ): Promise<CopyReport> {
    return this.#copy('containers.pack', container, options, async (subject) =>
      packFrom(this.#streams, subject, [path, output], options),
    )
  }

  /**
   * Unpacks a tar, compressed or not, into a directory of a container: a file, `-` for standard input, or a stream. Owners are those in the tar. Devices,
   * pipes, sockets and what goes into mounts of the container are left out. @throws CONTAINER_NOT_FOUND, PATH_NOT_FOUND, USAGE, TAR_INVALID, TAR_UNSAFE, COMPRESSION_INVALID, LAYER_LIMIT
   */
  async unpack(
    container: string,
    tar: string | AsyncIterable<Uint8Array>,
    path: string,
    options: UnpackFilesOptions = {},
  ): Promise<CopyReport> {
    const { activity, provisioner } = this.#services
    using stream = startReading(tar)
    const id = parseContainerId(container)
    return await activity.observe('containers.unpack', { id }, async () => {
      closeSync(openUnpackTarget(await findCopyContainer(provisioner, this.#paths, id), path))
      // Before the container is leased: a slow sender keeps nobody from removing it.
      await using received = await receiveTar(this.#streams, stream ?? tar, options)
      return await this.#withLease(id, options, async (subject) =>
        unpackTo(this.#streams, subject, [received, path], options),
      )
    })
  }

  get #streams(): StreamServices {
    const { layers, ingest, cwd, configuration } = this.#services
    return { layers, ingest, cwd, maxTarBytes: configuration.values.limit_layer_bytes }
  }

  async #copy(
    operation: OperationName,
    container: string,
    options: Pick<CopyOptions, 'signal'>,
    act: (subject: CopyContainer) => Promise<CopyReport>,
  ): Promise<CopyReport> {
    const id = parseContainerId(container)
    return this.#services.activity.observe(operation, { id }, async () => this.#withLease(id, options, act))
  }

  async #withLease(
    id: ContainerId,
    { signal }: Pick<CopyOptions, 'signal'>,
    act: (subject: CopyContainer) => Promise<CopyReport>,
  ): Promise<CopyReport> {
    const { provisioner } = this.#services
    using _lease = await provisioner.lease(id, signal)
    return await act(await findCopyContainer(provisioner, this.#paths, id))
  }

  /** A slash or a dot at the end has a meaning, and stays. */
  #absolute(path: string): string {
    return isAbsolute(path) ? path : `${resolve(this.#services.cwd)}/${path}`
  }
}
