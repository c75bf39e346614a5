import type { Attributes, OperationName } from '../activity/index.ts'
import { resolve } from 'node:path'
import { cancelable, LoamError, throwIfAborted } from '../errors/index.ts'
import { type ExportOptions, exportTo, type UnexportedImages, type WrittenFormat } from '../exports/index.ts'
import type { ImageOptions, ImageServices } from '../images/index.ts'
import { findOriginal, lazyModeOf, nameForOthers, typeOf } from '../images/index.ts'
import { loamProgram } from '../lazy/index.ts'
import { createDirectories, type RootedPath, searchPath } from '../linux/index.ts'
import { type ContainerId, parseContainerId } from '../metadata/index.ts'
import { type ContainerInfo, type RecoveryReport } from '../provisioner/index.ts'
import type { ImageRequest } from '../sources/index.ts'
import { imageLabel, observeFetch, type StoredImage } from '../stores/index.ts'
import {
  exportToAdditionalStore,
  isWritten,
  removeFromAdditionalStore,
  type UnexportOptions,
} from './additional-store.ts'
import { ContainerFiles } from './container-files.ts'
import { writeBundle } from './bundle.ts'
import { startBundle } from './detached-run.ts'
import { describeProvisioned } from './describe-provisioned.ts'
import type { MesosContainer } from './mesos-container.ts'
import {
  bundlePath,
  findRuntime,
  lockProcess,
  removeRuntimeContainer,
  runBundle,
  type RuntimePaths,
} from './oci-runtime.ts'
import { recoverStore, type RecoverServices } from './recover.ts'
import type {
  DestroyOptions,
  MountedVolume,
  OwnProvisionOptions,
  ProvisionImageOptions,
  RecoverOptions,
  RunImageOptions,
  VolumeOptions,
} from './requests.ts'
import type { ProvisionedContainer, ProvisionedImage, ProvisionedVolume } from './results.ts'
import { OutputProgress } from './output-progress.ts'
import { ContainerProcesses } from './processes.ts'
import { logPath } from './output-log.ts'
import { planRun } from './run-plan.ts'
import {
  openState,
  sharedIdNotes,
  formatUserNamespace,
  openForNamespace,
  parseUserNamespace,
} from './user-namespace.ts'
import { rootfsSource } from './rootfs-source.ts'
import { rootlessNotes } from './rootless-notes.ts'
import { spawnProcess, type SpawnedProcess, type SpawnImageOptions } from './spawned-process.ts'
import { idOf } from './requested-id.ts'
import { checkSize } from './size-limit.ts'
import { provisionAll, volumePath } from './volumes.ts'

/** The status for a starter that was killed: no process is left to read it. */
const STARTER_GONE = 128 + 9

/** The services that operations on containers use. */
export interface ContainerServices
  extends Pick<
      ImageServices,
      'activity' | 'configuration' | 'cwd' | 'paths' | 'blobs' | 'ingest' | 'retained'
    >,
    RecoverServices {
  /** Where to look up programs. */
  readonly env: Readonly<Record<string, string | undefined>>
}

/** Operations on the containers of one store. All methods may be called concurrently, also by several processes on the same store. */
export class Containers {
  readonly #services: ContainerServices

  /** @internal */
  constructor(services: ContainerServices) {
    this.#services = services
  }

  /** Creates a root filesystem from an image, which is pulled if it is not in the store. Nothing of it is left on failure. */
  async provision(
    image: string | ImageRequest,
    options: ProvisionImageOptions = {},
  ): Promise<ProvisionedImage> {
    const id = idOf(options)
    return this.#observe('containers.provision', { image: imageLabel(image), id }, options, async (own) =>
      this.#provision(id, image, own, (rootfs) => rootfs),
    )
  }

  async #observe<Options extends ImageOptions, Result>(
    operation: OperationName,
    attributes: Attributes,
    options: Options,
    act: (options: Options) => Promise<Result>,
  ): Promise<Result> {
    const { activity } = this.#services
    return observeFetch({ activity, operation, attributes }, options, act)
  }

  async #provision<T>(
    containerId: ContainerId,
    image: string | ImageRequest,
    options: OwnProvisionOptions,
    use: (provisioned: ProvisionedImage, image: StoredImage) => T,
  ): Promise<T> {
    const { sources, stores, provisioner } = this.#services
    const asked = options.backend ?? this.#services.configuration.values.image_provisioner_backend
    // Before anything is pulled: a backend that cannot work fails at once.
    const idMapping = parseUserNamespace(options.userNamespace)
    const sizeBytes = checkSize(options)
    const { rootless } = this.#services.configuration
    const isUsedOutside = options.isUsedHere !== true && rootless !== undefined && rootless.ids !== 'none'
    const {
      name: backend,
      needsUnpacked,
      showsPartial,
    } = provisioner.chooseBackend(asked, {
      idMapping,
      sizeBytes,
      isUsedOutside,
    })
    for (const note of rootlessNotes(rootless, { backend, isUsedOutside }))
      options.onEvent?.({ kind: 'note', ...note })
    const {
      name,
      cached: wantsCached = true,
      credentials = options.credentials,
    } = sources.find(image, { ...options, mayBeGone: options.refresh !== true })
    const { lazy_pull: lazySetting } = this.#services.configuration.values
    const lazy = showsPartial
      ? lazyModeOf({ ...options, credentials }, lazySetting)
      : { lazy: undefined, whyEager: undefined }
    return sources.with(name, { ...options, credentials }, async (source) => {
      const cached = wantsCached && options.refresh !== true && source.isRemote
      using stored = await stores[typeOf(name)].get(source, {
        ...options,
        ...lazy,
        cached,
        unpack: needsUnpacked,
      })
      const rootfs = await provisioner.provision({
        containerId,
        image: stored,
        reference: source.name,
        backend: asked,
        isReadOnly: options.isReadOnly ?? false,
        idMapping,
        sizeBytes,
        isUsedOutside,
        volumePath: options.volumePath,
        volumeSubPath: options.volumeSubPath,
        signal: options.signal,
      })
      return use(describeProvisioned(this.#services.paths, rootfs, source, stored), stored)
    })
  }

  /**
   * Creates the image volumes of a container, all at the same time. If the container has no root filesystem, an absolute target is a path of this
   * machine and must exist, and a relative target is created in `sandbox`; otherwise both are in the root filesystem, and the volumes are mounted
   * there until the container is destroyed.
   * @throws ID_INVALID; VOLUMES_FAILED with all failures: no volume is left then
   */
  async provisionVolumes(
    volumes: readonly MountedVolume[],
    options: VolumeOptions,
  ): Promise<ProvisionedVolume[]> {
    return this.#services.activity.observe(
      'containers.provisionVolumes',
      { id: options.id, volumes: volumes.length },
      async () => this.#provisionVolumes(volumes, options),
    )
  }

  async #provisionVolumes(
    volumes: readonly MountedVolume[],
    options: VolumeOptions,
  ): Promise<ProvisionedVolume[]> {
    const id = parseContainerId(options.id)
    const root = this.#services.provisioner
      .find(id)
      ?.rootfses.find((rootfs) => rootfs.volumeTarget === undefined)
    if (root !== undefined) this.#services.provisioner.requireStanding(root, `make volumes of ${id}`)
    const { sandbox_directory: sandboxDirectory } = this.#services.configuration.values
    const rootfses = this.#services.metadata.containers.rootfses()
    const sandbox = options.sandbox && resolve(this.#services.cwd, options.sandbox)
    const roots = { rootfsPath: root?.rootfsPath, sandboxDirectory, sandbox, rootfses }
    const userNamespace = options.userNamespace ?? formatUserNamespace(root?.idMapping)
    return this.#provisionAll(id, volumes, { ...options, userNamespace }, (volume) =>
      volumePath(volume.target, roots),
    )
  }

  /**
   * Creates the root filesystem of a container and mounts its image volumes in it, until it is destroyed. The runtime must mount its paths of this
   * machine. Nothing is left on failure. @throws USAGE for a container without an image; as `provision` and `provisionVolumes`
   */
  async provisionContainer(
    container: MesosContainer,
    options: ProvisionImageOptions = {},
  ): Promise<ProvisionedContainer> {
    if (container.image === undefined) {
      throw new LoamError('USAGE', 'provision a container: it has no image', {
        hint: 'Add "mesos": {"image": …}; `loam volume` mounts images for a container without a root filesystem.',
      })
    }
    const rootfs = await this.provision(container.image, options)
    const { containerId: id, uuid } = rootfs
    try {
      const { isReadOnly: _isReadOnly, sizeBytes: _sizeBytes, lazyIndex: _lazyIndex, ...forVolumes } = options
      const volumes = await this.provisionVolumes(container.volumes, { ...forVolumes, id })
      return { rootfs, volumes, hostMounts: container.hostMounts }
    } catch (error) {
      // A clean-up that fails must not hide why the volumes failed; recover finds what it leaves.
      await this.#services.provisioner.destroyRootfs(id, uuid).catch(() => undefined)
      throw error
    }
  }

  async #provisionAll(
    id: ContainerId,
    volumes: readonly MountedVolume[],
    options: Omit<VolumeOptions, 'id'>,
    pathOf: (volume: MountedVolume) => RootedPath | undefined,
  ): Promise<ProvisionedVolume[]> {
    return provisionAll(volumes, {
      sandboxDirectory: this.#services.configuration.values.sandbox_directory,
      provision: async (volume) => {
        const path = pathOf(volume)
        const { subPath } = volume
        const place = path === undefined ? {} : { volumePath: path }
        const part = subPath === undefined ? {} : { volumeSubPath: subPath }
        const own = { mayBeArtifact: true, ...options, ...place, ...part, isUsedHere: true }
        return this.#provision(
          id,
          volume.image,
          { ...own, isReadOnly: volume.isReadOnly, sizeBytes: volume.sizeBytes },
          (rootfs) => rootfs,
        )
      },
      signal: options.signal,
      undo: async ({ uuid }) => this.#services.provisioner.destroyRootfs(id, uuid),
    })
  }

  /**
   * Runs a process in a new root filesystem of an image, with the standard streams of this process, and removes the root filesystem afterwards unless
   * it is to be kept. Returns the process's exit status.
   * @throws ID_INVALID, CONTAINER_EXISTS, COMMAND_NOT_FOUND, COMMAND_NOT_EXECUTABLE, USER_NOT_FOUND, RUNTIME_FAILED, VOLUMES_FAILED
   */
  async run(image: string | ImageRequest, options: RunImageOptions = {}): Promise<number> {
    const id = idOf(options)
    return this.#observe('containers.run', { image: imageLabel(image), id }, options, async (own) =>
      this.#run(image, { ...own, id }),
    )
  }

  /**
   * Starts a process in a new root filesystem of an image, as `run`, and returns when it runs: with streams, signals and its end in the hands of the
   * caller. The root filesystem is removed when the process has ended, unless it is to be kept. @throws as `run`, CANCELED
   */
  async spawn(image: string | ImageRequest, options: SpawnImageOptions = {}): Promise<SpawnedProcess> {
    return spawnProcess(options, async (starter) => this.run(image, { ...options, starter }))
  }

  async #run(image: string | ImageRequest, options: RunImageOptions): Promise<number> {
    checkSize(options)
    const paths = this.runtimePaths()
    findRuntime(paths)
    const idMapping = parseUserNamespace(options.userNamespace)
    if (idMapping !== undefined) {
      openState(paths)
      for (const text of sharedIdNotes(idMapping)) options.onEvent?.({ kind: 'note', text, isAdvice: true })
    }
    const containerId = idOf(options)
    if (this.#services.provisioner.find(containerId) !== undefined) {
      throw new LoamError('CONTAINER_EXISTS', `run ${containerId}: a container with this ID exists`, {
        hint: `Choose another --id, or remove it: loam destroy ${containerId}`,
      })
    }
    const { volumes, mounts, env, confinement } = planRun(options, this.#services)
    // The runtime creates mount points first and makes the root filesystem read-only after that.
    const writable = { ...options, isReadOnly: false, isUsedHere: true }
    const { rootfs, config } = await this.#provision(containerId, image, writable, (provisioned, stored) => ({
      rootfs: provisioned,
      config: stored.config,
    }))
    try {
      const { imageType: _imageType, command: _command, lazyIndex: _lazyIndex, ...forVolumes } = options
      // The runtime mounts them, in the container's own view.
      const provisioned = await this.#provisionAll(containerId, volumes, forVolumes, () => undefined)
      createDirectories(paths.state)
      const bundle = bundlePath(paths, containerId)
      writeBundle(bundle, {
        rootfs,
        idMapping,
        run: config.run,
        options: { ...options, mounts, env },
        volumes: provisioned,
        confinement,
        settings: this.#services.configuration.values,
      })
      if (idMapping !== undefined)
        openForNamespace(paths, { bundle, rootfsPath: rootfs.rootfsPath, idMapping })
      options.onStart?.(containerId)
      if (options.detach === true) {
        await this.#startDetached(paths, containerId, options)
        return 0
      }
      const status = await runBundle(
        paths,
        { id: containerId, keep: options.keep ?? false },
        options.starter?.start,
      )
      if (status !== undefined) await this.#endRun(paths, containerId, options)
      return status ?? STARTER_GONE
    } catch (error) {
      // A clean-up that fails must not hide why the run failed; recover finds what it leaves.
      await this.#endRun(paths, containerId, options).catch(() => undefined)
      throw error
    }
  }

  async #startDetached(paths: RuntimePaths, id: ContainerId, options: RunImageOptions): Promise<void> {
    const { root, state, container_log_size: logBytes } = this.#services.configuration.values
    const words = ['--quiet', '--root', root, '--state', state, 'destroy', id]
    using _lock = await lockProcess(paths, id, options.signal)
    await startBundle(paths, {
      id,
      log: logPath(this.#services.provisioner, id),
      logBytes,
      keepsInput: options.keepsInput ?? false,
      terminal: options.terminal ?? false,
      remove: options.remove === true ? [...loamProgram(), ...words] : undefined,
      start: options.starter?.start,
      signal: options.signal,
    })
  }

  /** Operations on the files of containers. */
  get files(): ContainerFiles {
    return new ContainerFiles(this.#services, this.runtimePaths())
  }

  /** Operations on the processes of containers. */
  get processes(): ContainerProcesses {
    const destroy = async (id: string) => this.destroy(id)
    return new ContainerProcesses({ ...this.#services, destroy }, this.runtimePaths())
  }

  async #endRun(paths: RuntimePaths, id: ContainerId, options: RunImageOptions): Promise<void> {
    await removeRuntimeContainer(paths, id)
    if (options.keep !== true) await this.#services.provisioner.destroy(id)
  }

  /** @internal Directory of the OCI runtime's state for the containers of this store. */
  runtimePaths(): RuntimePaths {
    const { state, runtime } = this.#services.configuration.values
    return { state, runtime, env: this.#services.env }
  }

  /** Destroys a container: its process, its root filesystems, and the containers nested in it. Returns false if it does not exist. */
  async destroy(container: string, { signal }: DestroyOptions = {}): Promise<boolean> {
    return this.#services.activity.observe('containers.destroy', { id: container }, async (span) => {
      const destroyed = await this.#destroy(container, signal)
      span.set({ destroyed })
      return destroyed
    })
  }

  async #destroy(container: string, signal: AbortSignal | undefined): Promise<boolean> {
    const id = parseContainerId(container)
    const paths = this.runtimePaths()
    const inside = this.#services.metadata.containers
      .ids()
      .filter((each) => each === id || each.startsWith(`${id}/`))
    for (const each of inside.toReversed()) {
      throwIfAborted(signal, `destroy ${id}`)
      await removeRuntimeContainer(paths, each, signal)
    }
    return cancelable(signal, `destroy ${id}`, async () => this.#services.provisioner.destroy(id, signal))
  }

  /** Lists the containers that have root filesystems. */
  async list(): Promise<ContainerInfo[]> {
    return this.#services.provisioner.list()
  }

  /** Cleans up after a crash and remounts after a reboot. With `known`, destroys all other containers. Removes what `processes.list` removes. */
  async recover(options: RecoverOptions = {}): Promise<RecoveryReport> {
    const { activity } = this.#services
    return observeFetch(
      { activity, operation: 'containers.recover', attributes: {} },
      options,
      async (own) => {
        await this.processes.list()
        return recoverStore(this.#services, own)
      },
    )
  }

  /**
   * Writes an image, pulled if needed, or a container's root filesystem in its current state, to a file or folder.
   * @throws OUTPUT_EXISTS, USAGE, and the errors of `pull`
   */
  async export(image: string, options: ExportOptions & ImageOptions): Promise<void> {
    const { format } = options
    return this.#observe('containers.export', { image: imageLabel(image), format }, options, async (own) =>
      isWritten(own) ? this.#export(image, own) : exportToAdditionalStore(this.#services, image, own),
    )
  }

  /**
   * Removes an image from a directory that was exported as `containers-storage`, by its name there or its digest, or all images and the files of the
   * store. Running containers of other programs go on; they cannot start it again. @throws IMAGE_NOT_FOUND
   */
  async unexport(directory: string, { image }: UnexportOptions = {}): Promise<UnexportedImages> {
    return this.#services.activity.observe('containers.unexport', { directory }, async () =>
      removeFromAdditionalStore(this.#services, directory, image),
    )
  }

  async #export(
    image: string,
    options: ExportOptions & ImageOptions & { readonly format: WrittenFormat },
  ): Promise<void> {
    const { provisioner, layers, ingest, sources, stores } = this.#services
    const container = provisioner.find(image)
    const progress = new OutputProgress(options)
    const exporter = {
      layers,
      onBytes: progress.onBytes,
      ingest,
      path: searchPath(this.#services.env),
      cwd: this.#services.cwd,
      onNote: (text: string) => options.onEvent?.({ kind: 'note', text }),
    }
    if (container !== undefined) {
      using _lease = await provisioner.lease(container.id, options.signal)
      // The previous holder of the lock may have begun to destroy it.
      await exportTo(
        rootfsSource(this.#services, provisioner.find(container.id) ?? container),
        options,
        exporter,
      )
      progress.finish()
      return
    }
    const { name } = sources.find(image, { ...options, mayBeGone: true })
    await sources.with(name, options, async (source) => {
      using stored = await stores[typeOf(name)].get(source, { ...options, cached: source.isRemote })
      const diffIds = stored.layers.map(({ diffId }) => diffId)
      const described = {
        readConfig: () => stored.configBytes,
        name: nameForOthers(source),
        findOriginal: async () => findOriginal(this.#services, stored, options.signal),
      }
      await exportTo({ kind: 'image', layers: diffIds, image: described }, options, exporter)
      progress.finish()
    })
  }

  /** Finds a container by its id. */
  async find(id: string): Promise<ContainerInfo | undefined> {
    return this.#services.provisioner.find(id)
  }
}
