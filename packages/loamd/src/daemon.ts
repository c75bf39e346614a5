import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Activity, type Loam, LoamError, openLoam, readConfiguration, type RecoveryReport } from 'loamfs'
import { IMAGE_SERVICE_SOCKET, indexInBackground } from 'loamfs/internal'
import { CommandService } from './command/command-service.ts'
import { ContainerdClient } from './containerd-client.ts'
import { createCsiServer } from './csi/csi-server.ts'
import { CsiVolumes } from './csi/volumes.ts'
import { type Door, Doors } from './doors.ts'
import { logDenied } from './denied-indexes.ts'
import { createGrpcServer } from './grpc-server.ts'
import { createHttpServer } from './http/server.ts'
import { createImageService } from './image-service/image-service.ts'
import { PullCredentials } from './image-service/pull-credentials.ts'
import { ImageCollection } from './image-collection.ts'
import { logLeft } from './left-layers.ts'
import type { Log } from './log.ts'
import type { DaemonState } from './operations/index.ts'
import { Exposition, serveMetrics } from './metrics/exposition.ts'
import { Metrics } from './metrics/metrics.ts'
import { StoreFigures } from './metrics/store-figures.ts'
import type { CallObserver } from './service.ts'
import { findGroupId } from './socket-group.ts'
import { type PassedSocket, passedSockets, type SocketName } from './systemd/passed-sockets.ts'
import { startTracing } from './tracing/tracing.ts'
import { readVersion } from './version.ts'

/** Time that canceled operations have to clean up, before the store is closed. */
const CLEAN_UP_LIMIT_MS = 20_000
const CLEAN_UP_PAUSE_MS = 20

/** How the daemon stops if no other one takes over: meanwhile clients wait for the next one. */
const STOP = { limitMs: 10_000, lingerMs: 0 }
/** How it stops when another daemon has taken over: only the clients of its requests wait for it. */
const HAND_OVER = { limitMs: 24 * 60 * 60 * 1000, lingerMs: 60_000, keepPaths: true }

export interface DaemonOptions {
  readonly flags: Readonly<Record<string, string | boolean | undefined>>
  readonly configFile: string | undefined
  /** Socket of containerd's snapshots API (gRPC). */
  readonly socketPath: string
  /** Socket of Loam's own API (HTTP). Undefined: `loamd.sock` in the state directory. */
  readonly httpSocketPath?: string | undefined
  readonly isRemote: boolean
  readonly env: Readonly<Record<string, string | undefined>>
  readonly log: Log
}

interface DaemonParts {
  readonly options: DaemonOptions
  readonly open: AsyncDisposableStack
  readonly loam: Loam
  readonly doors: Doors
  /** Tasks without a request. */
  readonly background: AsyncDisposable
  readonly httpSocketPath: string
}

/** Serves one store, to containerd and to clients of its own API, until it is disposed. */
export class Daemon implements AsyncDisposable {
  readonly #options: DaemonOptions
  readonly #open: AsyncDisposableStack
  readonly #loam: Loam
  readonly #doors: Doors
  readonly #background: AsyncDisposable
  /** Path of the socket of Loam's own API. */
  readonly httpSocketPath: string

  private constructor({ options, open, loam, doors, background, httpSocketPath }: DaemonParts) {
    this.#options = options
    this.#open = open
    this.#loam = loam
    this.#doors = doors
    this.#background = background
    this.httpSocketPath = httpSocketPath
  }

  /** Opens the store and listens. @throws the errors of opening and listening */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const { flags, configFile, socketPath, env, log } = options
    await using open = new AsyncDisposableStack()
    const activity = new Activity()
    open.use(await startTracing(activity, env, log))
    const loam = open.use(await openLoam({ flags, file: configFile, env, activity }))
    indexInBackground(loam)
    const { values, warnings } = loam.store.configuration
    for (const warning of warnings) log.warn('read the settings', { error: warning })
    if (values.signature_policy !== undefined && !options.isRemote)
      log.warn('read the settings', {
        error: 'with --no-remote, signature_policy does not apply to containerd',
      })
    const report = await loam.recover()
    logRecovery(report, log)
    const { httpSocketPath = join(values.state, 'loamd.sock') } = options
    const imageSocketPath = join(values.state, IMAGE_SERVICE_SOCKET)
    const { socket_group: group } = values
    const passed = passedSockets(env)
    const daemon: DaemonState = {
      startedAtMs: Date.now(),
      sockets: [
        { name: 'snapshotter', path: socketPath },
        { name: 'api', path: httpSocketPath },
        ...(values.csi_socket === undefined ? [] : [{ name: 'csi', path: values.csi_socket }]),
        { name: 'image-service', path: imageSocketPath },
      ],
      requests: new Map(),
    }
    const commands = new CommandService({
      loam,
      version: readVersion(),
      requests: daemon.requests,
      log,
    })
    const metrics = new Metrics()
    for (const observe of [metrics.observe, logDenied(log)]) open.defer(loam.activity.subscribe(observe))
    const { registry } = metrics
    const exposition = new Exposition(metrics, new StoreFigures({ loam, log, registry }))
    const { metrics_address: metricsAddress } = values
    const background = open.use(new AsyncDisposableStack())
    if (metricsAddress !== undefined) background.use(await serveMetrics(metricsAddress, exposition))
    const containerd = open.use(new ContainerdClient(values.containerd_socket))
    const calls = { log, activity, count: metrics.countCall.bind(metrics) }
    const credentials = new PullCredentials(values.limit_pull_time)
    const snapshotter = openSnapshotter(loam, options, credentials)
    const doors = await Doors.open(
      {
        snapshotter: {
          path: socketPath,
          passed: passed.snapshotter,
          server: createGrpcServer({ loam, snapshotter, containerd }, calls),
        },
        ...openCsi({ loam, open, passed: passed.csi, calls }),
        api: {
          path: httpSocketPath,
          passed: passed.api,
          server: createHttpServer({
            loam,
            activity,
            daemon,
            exposition,
            log,
            onCommand: commands.accept,
          }),
          groupId: group === undefined ? undefined : findGroupId(group),
        },
        'image-service': {
          path: imageSocketPath,
          passed: passed['image-service'],
          server: createImageService({ socket: values.containerd_socket, credentials, log }),
        },
      },
      log,
    )
    open.defer(async () => settle(daemon.requests))
    open.defer(async () => doors.stop(STOP))
    background.use(new ImageCollection({ loam, log }))
    return new Daemon({ options, open: open.move(), loam, doors, background, httpSocketPath })
  }

  /** Directory of the store. */
  get root(): string {
    return this.#loam.store.configuration.values.root
  }

  /** The listening sockets, for a daemon that takes over. */
  get sockets(): Readonly<Partial<Record<SocketName, PassedSocket>>> {
    return this.#doors.sockets
  }

  /**
   * Reads the settings as a daemon that takes over does, and logs those that it cannot change. @throws CONFIG_INVALID when they are invalid, and when
   * they name another store or another socket of the CSI driver
   */
  checkSettings(): void {
    const { flags, configFile: file, env, log } = this.#options
    const next = readConfiguration({ flags, file, env }).values
    const now = this.#loam.store.configuration.values
    for (const name of ['root', 'state', 'csi_socket'] as const) {
      if (next[name] === now[name]) continue
      throw new LoamError(
        'CONFIG_INVALID',
        `reload ${name}: ${now[name] ?? 'unset'} cannot become ${next[name] ?? 'unset'}`,
        {
          hint: 'Stop the daemon, and start it again.',
        },
      )
    }
    if (next.socket_group === now.socket_group) return
    log.warn('reload socket_group', { error: 'the socket keeps its group until the daemon is restarted' })
  }

  /** Completes the requests in progress, however long they take, and leaves the sockets to the daemon that has taken over. Disposing of it ends this soon. */
  async finish(): Promise<void> {
    await this.#background[Symbol.asyncDispose]()
    await this.#doors.stop(HAND_OVER)
  }

  /** Shows that the store answers. @throws system errors */
  async check(): Promise<void> {
    await this.#loam.store.check()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#open[Symbol.asyncDispose]()
  }
}

interface CsiDoorOptions {
  readonly loam: Loam
  readonly open: AsyncDisposableStack
  readonly passed: PassedSocket | undefined
  readonly calls: CallObserver
}

/** Returns the CSI driver if a socket is configured for it. */
function logRecovery({ failed, poisoned }: RecoveryReport, log: Log): void {
  for (const { what, reason } of failed) log.warn('recover', { what, error: reason })
  const error = 'it was unmounted: it may have shown wrong data while nothing served its partial layers'
  for (const what of poisoned) log.warn('recover', { what, error })
}

function openCsi({ loam, open, passed, calls }: CsiDoorOptions): { readonly csi?: Door } {
  const { values } = loam.store.configuration
  if (values.csi_socket === undefined) return {}
  const volumes = open.use(new CsiVolumes(loam, calls.log))
  const driver = {
    name: values.csi_driver_name,
    version: readVersion(),
    hasController: values.csi_controller,
  }
  const check = async () => loam.store.check()
  const nodeId = values.csi_node_id ?? hostname()
  return {
    csi: {
      path: values.csi_socket,
      passed,
      server: createCsiServer({ driver, nodeId, volumes, check }, calls),
    },
  }
}

/** Waits until the operations in progress have ended: canceled ones still clean up, and need the store. */
async function settle(requests: DaemonState['requests']): Promise<void> {
  const startMs = performance.now()
  while (requests.size > 0 && performance.now() - startMs < CLEAN_UP_LIMIT_MS) await sleep(CLEAN_UP_PAUSE_MS)
}

function openSnapshotter(loam: Loam, { isRemote, log }: DaemonOptions, credentials: PullCredentials) {
  return loam.snapshots.open({
    isRemote,
    credentialsFor: credentials.of,
    onLeft: logLeft(log),
    onNote: ({ ref, text }) => {
      log.info('took a layer', { ref, note: text })
    },
  })
}
