import { isAbsolute, resolve } from 'node:path'
import type { Activity } from '../activity/index.ts'
import type { LayerStore } from '../layers/index.ts'
import { parseContainerId } from '../metadata/index.ts'
import type { Provisioner } from '../provisioner/index.ts'
import { type CopyContainer, copyFrom, copyTo, findCopyContainer } from './copy-files.ts'
import type { RuntimePaths } from './oci-runtime.ts'
import type { CopyOptions } from './requests.ts'
import type { CopyReport } from './results.ts'

interface FileServices {
  readonly provisioner: Provisioner
  readonly activity: Activity
  readonly layers: Pick<LayerStore, 'trees'>
  readonly cwd: string
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
   * @throws CONTAINER_NOT_FOUND, PATH_NOT_FOUND, USAGE for a mount of the running container, and for a name that is in the way
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

  async #copy(
    operation: string,
    container: string,
    { signal }: CopyOptions,
    act: (subject: CopyContainer) => Promise<CopyReport>,
  ): Promise<CopyReport> {
    const { activity, provisioner } = this.#services
    const id = parseContainerId(container)
    return activity.observe(operation, { id }, async () => {
      using _lease = await provisioner.lease(id, signal)
      return await act(await findCopyContainer(provisioner, this.#paths, id))
    })
  }

  /** A slash or a dot at the end has a meaning, and stays. */
  #absolute(path: string): string {
    return isAbsolute(path) ? path : `${resolve(this.#services.cwd)}/${path}`
  }
}
