import { join } from 'node:path'
import { checkOptionNames, checkOptions, type CallGuard, guardCalls, text } from '../options/index.ts'
import type { ActivityEvent } from '../activity/index.ts'
import type { OPERATIONS, RequestOf, ResultOf, SUBSCRIPTIONS } from '../api/index.ts'
import type { HostReport, StoreCare } from '../app/index.ts'
import type { FetchOptions } from '../images/index.ts'
import type { FsckOptions, FsckReport, StoreUsage } from '../maintenance/index.ts'
import type { PartialLayerInfo } from '../lazy/index.ts'
import type { ClientExamination, NodeReport } from '../nodes/index.ts'
import { RemoteContainers } from './remote-containers.ts'
import { RemoteImages } from './remote-images.ts'
import { RemoteSnapshots } from './remote-snapshots.ts'
import { type RemoteFetchOptions, toFetchFields } from './requests.ts'
import { type EventStreamOptions, Transport } from './transport.ts'

/** The same default as that of the setting `state`. */
const DEFAULT_STATE = '/run/loam'

/** Refuses options that do not exist, as the library does: the daemon gets what a call knows, and would not see them. */
const GUARD: CallGuard = {
  check: (call, args) => {
    checkOptions(call, args.at(-1), { dockerConfig: text })
  },
  run: async (act) => act(),
}

/** Which daemon to connect to. */
export interface ConnectOptions {
  /** Path of the daemon's socket. Undefined: `loamd.sock` in the state directory. */
  readonly socket?: string | undefined
  /** The daemon's state directory. Undefined: /run/loam. */
  readonly state?: string | undefined
  /** Stops waiting for the daemon's first answer. */
  readonly signal?: AbortSignal | undefined
}

/** A daemon's report about itself. */
export type DaemonVersion = ResultOf<(typeof OPERATIONS)['daemon.version']>
/** A setting in force, with its source. */
export type DescribedSetting = ResultOf<(typeof OPERATIONS)['store.config']>[number]
/** Which events to receive. */
export type EventFilter = RequestOf<(typeof SUBSCRIPTIONS)['daemon.events']>

/**
 * Connects to a daemon, and waits for its first answer. Close it by `await using`.
 * @throws DAEMON_UNAVAILABLE if no daemon listens there; PERMISSION_DENIED, CANCELED
 */
export async function connectLoam(options: ConnectOptions = {}): Promise<RemoteLoam> {
  checkOptionNames('connectLoam', options, ['socket', 'state', 'signal'] satisfies (keyof ConnectOptions)[])
  const { socket, state, signal } = options
  const transport = new Transport(socket ?? join(state ?? DEFAULT_STATE, 'loamd.sock'))
  try {
    return new RemoteLoam(transport, await transport.call('daemon.version', {}, { signal }))
  } catch (error) {
    transport.close()
    throw error
  }
}

/**
 * The store of a daemon: the front door of `Loam` over the daemon's socket, with the same results and the same errors. All calls may be made
 * concurrently. A call that is canceled by its signal is canceled in the daemon. DAEMON_LOST says that the daemon ended before it answered.
 *
 * ```ts
 * import { connectLoam } from 'loamfs/client'
 *
 * await using loam = await connectLoam()
 * const { rootfsPath } = await loam.provision('debian:12', { id: 'web', onEvent: ({ kind }) => console.error(kind) })
 * console.log(rootfsPath)
 * await loam.destroy('web')
 * ```
 */
export class RemoteLoam implements AsyncDisposable {
  /** Operations on images. */
  readonly images: RemoteImages
  /** Operations on containers and their root filesystems. */
  readonly containers: RemoteContainers
  /** Operations on snapshots, as in containerd. */
  readonly snapshots: RemoteSnapshots
  /** The store as a whole. */
  readonly store: RemoteStore
  /** The daemon's report about itself when the client connected. */
  readonly daemon: DaemonVersion
  readonly #transport: Transport

  /** @internal Use `connectLoam`. */
  constructor(transport: Transport, daemon: DaemonVersion) {
    this.#transport = transport
    this.daemon = daemon
    this.images = guardCalls(new RemoteImages(transport), [], GUARD)
    this.containers = guardCalls(new RemoteContainers(transport), ['files', 'processes'], GUARD)
    this.snapshots = guardCalls(new RemoteSnapshots(transport), [], GUARD)
    this.store = guardCalls(new RemoteStore(transport), [], GUARD)
  }

  /** Short for `images.pull`. */
  readonly pull: RemoteImages['pull'] = async (...args) => this.images.pull(...args)
  /** Short for `images.push`. */
  readonly push: RemoteImages['push'] = async (...args) => this.images.push(...args)
  /** Short for `containers.provision`. */
  readonly provision: RemoteContainers['provision'] = async (...args) => this.containers.provision(...args)
  /** Short for `containers.run`. */
  readonly run: RemoteContainers['run'] = async (...args) => this.containers.run(...args)
  /** Short for `containers.destroy`. */
  readonly destroy: RemoteContainers['destroy'] = async (...args) => this.containers.destroy(...args)
  /** Short for `containers.export`. */
  readonly export: RemoteContainers['export'] = async (...args) => this.containers.export(...args)
  /** Short for `containers.recover`. */
  readonly recover: RemoteContainers['recover'] = async (...args) => this.containers.recover(...args)

  /**
   * Yields the events of the daemon until the loop ends or the signal fires. A client that reads slowly loses events.
   * @throws DAEMON_LOST when the daemon ends; CANCELED
   */
  events(filter: EventFilter = {}, options: EventStreamOptions = {}): AsyncGenerator<ActivityEvent, void> {
    return this.#transport.events(filter, options)
  }

  /** Closes the connections. Calls in progress are canceled, and later ones fail with USAGE. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#transport.close()
    return Promise.resolve()
  }
}

/** Operations on a daemon's whole store: those of `StoreCare`, with the same results and errors. */
export class RemoteStore implements Omit<Pick<StoreCare, keyof StoreCare>, 'configuration' | 'check'> {
  readonly #transport: Transport

  /** @internal */
  constructor(transport: Transport) {
    this.#transport = transport
  }

  /** Measures the disk usage of images, layers and containers, in bytes. */
  async usage(): Promise<StoreUsage> {
    return this.#transport.call('store.usage', {})
  }

  /** Lists the layers whose data is not all here, as `StoreCare.partialLayers`. */
  async partialLayers(): Promise<readonly PartialLayerInfo[]> {
    return this.#transport.call('store.partialLayers', {})
  }

  /** Uses a lazy index again that was denied, as `StoreCare.allowIndex`. */
  async allowIndex(
    indexDigest: string,
    { signal }: Parameters<StoreCare['allowIndex']>[1] = {},
  ): Promise<boolean> {
    return this.#transport.call('store.allowIndex', { indexDigest }, { signal })
  }

  /** Verifies everything in the store, as `StoreCare.fsck`. */
  async fsck(options: RemoteFetchOptions<FsckOptions & FetchOptions>): Promise<FsckReport> {
    const { repair, signal, onCheck, onProgress } = options
    return this.#transport.call(
      'store.fsck',
      { ...toFetchFields(options), repair },
      {
        signal,
        onEvent: (event) => {
          if (event.kind === 'check') onCheck?.(event.what)
          else onProgress?.(event)
        },
      },
    )
  }

  /** Reports which backends work on the daemon's machine, and why the others do not. */
  async doctor(): Promise<HostReport> {
    return this.#transport.call('store.doctor', {})
  }

  /** Checks the configuration of containerd or Docker on the daemon's machine, as `StoreCare.doctorClient`. */
  async doctorClient({ client, config }: ClientExamination): Promise<NodeReport> {
    return this.#transport.call('store.doctorClient', { client, config })
  }

  /** Lists the settings in force, with the source of each. */
  async settings(): Promise<readonly DescribedSetting[]> {
    return this.#transport.call('store.config', {})
  }
}
