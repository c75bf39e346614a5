import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Activity, OperationName } from '../activity/index.ts'
import type { Configuration } from '../config/index.ts'
import { isLoamError, LoamError, throwIfAborted } from '../errors/index.ts'
import { runProgram } from '../linux/index.ts'
import { type ContainerId, parseContainerId } from '../metadata/index.ts'
import { type ContainerInfo, type Provisioner, rootfsIdMapping } from '../provisioner/index.ts'
import { startBundle } from './detached-run.ts'
import { readConfig, readProcessOf } from './bundle-config.ts'
import { execInContainer } from './exec.ts'
import { isLeftByMonitor, isMonitorGone, MONITOR_FILES, readMonitor } from './monitor-files.ts'
import {
  bundlePath,
  killRuntimeContainer,
  lockProcess,
  messageOfRuntime,
  runtimeCall,
  runtimeId,
  type RuntimePaths,
} from './oci-runtime.ts'
import { logPath, readOutput } from './output-log.ts'
import { type ContainerProcess, readListedProcess, readProcess } from './process-state.ts'
import { ProcessWatch } from './process-watch.ts'
import type { ExecOptions, LogOptions, RunStarter, StopOptions } from './requests.ts'
import { type SpawnedProcess, type SpawnExecOptions, spawnProcess } from './spawned-process.ts'
import { parseSignal, STOP_SIGNAL } from './signals.ts'

const POLL_MS = 20
const STOP_TIMEOUT_MS = 10_000
/** The kernel ends a killed process at once, unless it waits for a device. */
const KILL_TIMEOUT_MS = 10_000
const SIGKILL = 9
/** Processes whose state is asked for at once. */
const MAX_ASKED = 4
/** How often to look whether a process whose output is followed has ended. */
const FOLLOW_POLL_MS = 200

interface ProcessServices {
  readonly provisioner: Provisioner
  readonly activity: Activity
  readonly configuration: Pick<Configuration, 'values'>
  readonly env: Readonly<Record<string, string | undefined>>
  /** Destroys a container. */
  readonly destroy: (id: string) => Promise<boolean>
}

/** Operations on the processes of containers. All may be called concurrently, also by several processes. */
export class ContainerProcesses {
  readonly #services: ProcessServices
  readonly #paths: RuntimePaths

  /** @internal */
  constructor(services: ProcessServices, paths: RuntimePaths) {
    this.#services = services
    this.#paths = paths
  }

  /**
   * Lists the processes of all containers, in the order of `Containers.list`. One whose state cannot be read is `unknown`. Containers that were to be removed
   * with their processes, and were not since their monitors were killed, are removed.
   */
  async list(): Promise<ContainerProcess[]> {
    const ids = this.#services.provisioner.ids()
    const found: ContainerProcess[] = []
    for (let from = 0; from < ids.length; from += MAX_ASKED) {
      const some = ids.slice(from, from + MAX_ASKED)
      found.push(...(await Promise.all(some.map(async (id) => readListedProcess(this.#paths, id)))))
    }
    const kept: ContainerProcess[] = []
    for (const each of found) if (!(await this.#removeLeft(each))) kept.push(each)
    return kept
  }

  async #removeLeft({ id, status }: ContainerProcess): Promise<boolean> {
    if (status !== 'exited' || !isLeftByMonitor(bundlePath(this.#paths, id))) return false
    try {
      return await this.#services.destroy(id)
    } catch (error) {
      // The next look tries again: a store may be read-only, or the container in use.
      if (!isLoamError(error)) throw error
      return false
    }
  }

  /** Finds the process of a container. @throws CONTAINER_NOT_FOUND, RUNTIME_FAILED */
  async find(container: string): Promise<ContainerProcess> {
    return readProcess(this.#paths, this.#get(container, 'look at').id)
  }

  /**
   * Runs a further process in a running container, with the standard streams of this process, and returns its exit status. The process has the
   * user, variables, capabilities and limits of the container's first one, unless the options say otherwise.
   * @throws CONTAINER_NOT_FOUND, CONTAINER_NOT_RUNNING, COMMAND_NOT_FOUND, COMMAND_NOT_EXECUTABLE, USER_NOT_FOUND, RUNTIME_FAILED
   */
  async exec(container: string, command: readonly string[], options: ExecOptions = {}): Promise<number> {
    return this.#observe('containers.exec', container, async () => {
      const found = this.#get(container, 'exec in')
      await this.#requireRunning(found.id, 'exec in')
      const rootfs = this.#rootfsOf(found)
      const idMapping = rootfsIdMapping(rootfs)
      const subject = { id: found.id, rootfs, idMapping, ownEnv: this.#services.env }
      return execInContainer(this.#paths, subject, command, options)
    })
  }

  /**
   * Starts a further process in a running container, as `exec`, and returns when it runs: with streams, signals and its end in the hands of the
   * caller. @throws as `exec`, CANCELED
   */
  async spawn(
    container: string,
    command: readonly string[],
    options: SpawnExecOptions = {},
  ): Promise<SpawnedProcess> {
    return spawnProcess(options, async (starter) => this.exec(container, command, { ...options, starter }))
  }

  /**
   * Starts the process of a detached container again, with the configuration and the files that it had.
   * @throws CONTAINER_NOT_FOUND, CONTAINER_NOT_DETACHED, CONTAINER_RUNNING, ROOTFS_UNMOUNTED
   */
  async start(container: string, starter?: RunStarter): Promise<void> {
    await this.#observe('containers.start', container, async () => {
      const found = this.#get(container, 'start')
      const { id } = found
      const bundle = bundlePath(this.#paths, id)
      // Of several that start it, the first one does; the others find that it runs.
      using _lock = await lockProcess(this.#paths, id, undefined)
      const monitor = readMonitor(bundle)
      if (monitor === undefined) {
        throw new LoamError('CONTAINER_NOT_DETACHED', `start ${id}: it has no process to start again`, {
          hint: 'Only containers of `loam run --detach` can be started again, until the machine restarts.',
        })
      }
      const { status } = await readProcess(this.#paths, id)
      if (status !== 'exited')
        throw new LoamError('CONTAINER_RUNNING', `start ${id}: its process is ${status}`)
      this.#services.provisioner.requireStanding(this.#rootfsOf(found), `start ${id}`)
      // A runtime that was killed has left it.
      await killRuntimeContainer(this.#paths, id)
      await startBundle(this.#paths, {
        id,
        log: logPath(this.#services.provisioner, id),
        logBytes: this.#services.configuration.values.container_log_size,
        keepsInput: existsSync(join(bundle, MONITOR_FILES.stdin)),
        terminal: readProcessOf(bundle, id).terminal === true,
        remove: undefined,
        start: starter?.start,
        signal: undefined,
      })
    })
  }

  /** Sends a signal to the first process of a container: a name or a number. @throws CONTAINER_NOT_FOUND, CONTAINER_NOT_RUNNING, USAGE */
  async kill(container: string, signal = 'SIGKILL'): Promise<void> {
    const number = parseSignal(signal)
    await this.#observe('containers.kill', container, async () => {
      const { id } = this.#get(container, 'kill')
      await this.#requireRunning(id, 'kill')
      await this.#send(id, number)
    })
  }

  /**
   * Stops a container: sends the signal that its image names, SIGTERM by default, and SIGKILL when the process has not ended in time. Returns false if it
   * did not run. @throws CONTAINER_NOT_FOUND, RUNTIME_FAILED, CANCELED
   */
  async stop(container: string, { timeoutMs = STOP_TIMEOUT_MS, signal }: StopOptions = {}): Promise<boolean> {
    return this.#observe('containers.stop', container, async () => {
      const { id } = this.#get(container, 'stop')
      const { status } = await readProcess(this.#paths, id)
      throwIfAborted(signal, `stop ${id}`)
      const bundle = bundlePath(this.#paths, id)
      const removes = readMonitor(bundle)?.removes === true && !isMonitorGone(bundle)
      if (status === 'exited' || status === 'none') {
        if (removes) await this.#waitForRemoval(id, signal)
        return false
      }
      await this.#send(id, stopSignalOf(bundle))
      if (!(await this.#waitForEnd(id, timeoutMs, signal))) {
        await this.#send(id, SIGKILL)
        if (!(await this.#waitForEnd(id, KILL_TIMEOUT_MS, signal)))
          throw new LoamError('RUNTIME_FAILED', `stop ${id}: its process does not end`)
      }
      if (removes) await this.#waitForRemoval(id, signal)
      return true
    })
  }

  /**
   * Reads the output of a detached process: standard output and error, each in its own order.
   * @throws CONTAINER_NOT_FOUND, CONTAINER_NOT_DETACHED
   */
  async *logs(container: string, { tail, follow, signal }: LogOptions = {}): AsyncIterable<Buffer> {
    const { id } = this.#get(container, 'read the output of')
    const watch = new ProcessWatch(this.#paths, id)
    yield* readOutput(logPath(this.#services.provisioner, id), id, {
      tail,
      mayGrow: follow === true ? async () => watch.isActive() : undefined,
      pollMs: FOLLOW_POLL_MS,
      signal,
    })
  }

  async #observe<Result>(operation: OperationName, id: string, act: () => Promise<Result>): Promise<Result> {
    return this.#services.activity.observe(operation, { id }, act)
  }

  #get(container: string, attempted: string): ContainerInfo {
    const id = parseContainerId(container)
    const found = this.#services.provisioner.find(id)
    if (found !== undefined) return found
    throw new LoamError('CONTAINER_NOT_FOUND', `${attempted} ${id}: no such container`, {
      hint: '`loam ps` lists the containers.',
    })
  }

  #rootfsOf({ id, rootfses }: ContainerInfo): ContainerInfo['rootfses'][number] {
    const rootfs = rootfses.find(({ volumeTarget }) => volumeTarget === undefined)
    if (rootfs !== undefined) return rootfs
    throw new LoamError('CONTAINER_NOT_FOUND', `${id}: the container has no root filesystem`)
  }

  async #requireRunning(id: string, attempted: string): Promise<void> {
    const { status, pid, isDetached } = await readProcess(this.#paths, id)
    if ((status === 'running' && pid !== undefined) || status === 'created') return
    const now = status === 'running' ? 'exited' : status
    throw new LoamError('CONTAINER_NOT_RUNNING', `${attempted} ${id}: it does not run (${now})`, {
      hint: isDetached
        ? `Start it again: loam start ${id}`
        : 'Run a process in a new container that stays: loam run --detach IMAGE sleep infinity',
    })
  }

  async #send(id: string, signal: number): Promise<void> {
    const { file, args, env } = runtimeCall(this.#paths, ['kill', runtimeId(id), String(signal)])
    const { status, stderr } = await runProgram(file, args, { env })
    // It may have ended meanwhile.
    if (status === 0 || (await readProcess(this.#paths, id)).pid === undefined) return
    throw new LoamError('RUNTIME_FAILED', `send signal ${signal} to ${id}: ${messageOfRuntime(stderr)}`)
  }

  async #waitForEnd(id: string, timeoutMs: number, signal: AbortSignal | undefined): Promise<boolean> {
    const end = performance.now() + timeoutMs
    for (const watch = new ProcessWatch(this.#paths, id); ; ) {
      throwIfAborted(signal, `stop ${id}`)
      if (!(await watch.isActive())) return true
      if (performance.now() >= end) return false
      await sleep(POLL_MS)
    }
  }

  async #waitForRemoval(id: ContainerId, signal: AbortSignal | undefined): Promise<void> {
    const { provisioner } = this.#services
    const end = performance.now() + KILL_TIMEOUT_MS
    // Its directory goes last.
    const isThere = () => provisioner.find(id) !== undefined || existsSync(provisioner.folderOf(id))
    while (isThere() && performance.now() < end) {
      throwIfAborted(signal, `stop ${id}`)
      await sleep(POLL_MS)
    }
  }
}

/** The bundle of a container that runs was written by Loam. */
function stopSignalOf(bundle: string): number {
  const config = readConfig(bundle)
  const notes = 'annotations' in config ? (config.annotations as Readonly<Record<string, string>>) : {}
  return parseSignal(notes[STOP_SIGNAL] ?? 'SIGTERM')
}
