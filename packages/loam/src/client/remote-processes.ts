import { resolve } from 'node:path'
import type { Writable } from 'node:stream'
import type {
  ContainerFiles,
  ContainerProcess,
  ContainerProcesses,
  CopyOptions,
  CopyReport,
  ExecOptions,
  LogOptions,
  PackFilesOptions,
  SpawnedProcess,
  SpawnExecOptions,
  StopOptions,
  UnpackFilesOptions,
} from '../containers/index.ts'
import { readEnv, sizeAtStart } from '../runtime/index.ts'
import { runRemotely } from './remote-run.ts'
import { descriptorOf, streamTo, tarOf } from './requests.ts'
import type { Transport } from './transport.ts'

/** Options of `exec` over a daemon: this process starts the OCI runtime. */
export type RemoteExecOptions = Omit<ExecOptions, 'starter'>

/** Operations on the processes of a daemon's containers: those of `ContainerProcesses`. */
export class RemoteProcesses implements Pick<ContainerProcesses, keyof ContainerProcesses> {
  readonly #transport: Transport

  /** @internal */
  constructor(transport: Transport) {
    this.#transport = transport
  }

  /** Lists the processes of all containers. */
  async list(): Promise<ContainerProcess[]> {
    return [...(await this.#transport.call('containers.processes', {}))]
  }

  /** Finds the process of a container, as `ContainerProcesses.find`. */
  async find(id: string): Promise<ContainerProcess> {
    return this.#transport.call('containers.process', { id })
  }

  /**
   * Runs a further process in a running container, as `ContainerProcesses.exec`: this process starts the OCI runtime, with its own streams, terminal and
   * signals. `env` takes values from the environment of this process. @throws PERMISSION_DENIED for a daemon of another user
   */
  async exec(id: string, command: readonly string[], options: RemoteExecOptions = {}): Promise<number> {
    return this.#exec(id, command, options)
  }

  /** Starts a further process in a running container, as `ContainerProcesses.spawn`, with the streams of the handle. @throws as `exec` */
  async spawn(
    id: string,
    command: readonly string[],
    options: SpawnExecOptions = {},
  ): Promise<SpawnedProcess> {
    const { spawnProcess } = await import('../containers/index.ts')
    return spawnProcess(options, async (starter) => this.#exec(id, command, { ...options, starter }))
  }

  async #exec(
    id: string,
    command: readonly string[],
    { env, workingDir, user, terminal, terminalSize, detach, onStart, starter }: ExecOptions,
  ): Promise<number> {
    this.#transport.requireOwnUser('containers.exec')
    const { boundingCapabilities } = await import('../linux/index.ts')
    const request = {
      ...{ id, command: [...command], workingDir, user, terminal, detach },
      terminalSize: sizeAtStart(terminalSize, terminal === true),
      env: env === undefined ? undefined : readEnv(env, process.env),
      capabilities: boundingCapabilities().toString(16),
    }
    // The container keeps what the daemon wrote for the process until it is removed.
    const onLost = async () => Promise.resolve(true)
    return runRemotely(this.#transport, 'containers.exec', request, { onStart, starter, onLost })
  }

  /** Reads the output of a detached process, as `ContainerProcesses.logs`. */
  async *logs(id: string, { tail, follow, signal }: LogOptions = {}): AsyncIterable<Buffer> {
    try {
      yield* this.#transport.download('containers.logs', { id, tail, follow }, signal)
    } catch (error) {
      // The signal ends the output, and is no failure.
      if (signal?.aborted !== true) throw error
    }
  }

  /** Starts the process of a detached container again, as `ContainerProcesses.start`; the daemon starts it. */
  async start(id: string): Promise<void> {
    await this.#transport.call('containers.start', { id })
  }

  /** Sends a signal to the process of a container, as `ContainerProcesses.kill`. */
  async kill(id: string, signal?: string): Promise<void> {
    await this.#transport.call('containers.kill', { id, signal })
  }

  /** Stops the process of a container, as `ContainerProcesses.stop`. */
  async stop(id: string, { timeoutMs, signal }: StopOptions = {}): Promise<boolean> {
    const { stopped } = await this.#transport.call('containers.stop', { id, timeoutMs }, { signal })
    return stopped
  }
}

/** Operations on the files of a daemon's containers: those of `ContainerFiles`. */
export class RemoteFiles implements Pick<ContainerFiles, keyof ContainerFiles> {
  readonly #transport: Transport

  /** @internal */
  constructor(transport: Transport) {
    this.#transport = transport
  }

  /** Copies files out of a container, as `ContainerFiles.copyFrom`. @throws PERMISSION_DENIED for a daemon of another user */
  async copyFrom(
    id: string,
    path: string,
    hostPath: string,
    { signal, ...options }: CopyOptions = {},
  ): Promise<CopyReport> {
    this.#transport.requireOwnUser('containers.copyFrom')
    const request = { id, path, hostPath: absolute(hostPath), ...options }
    return this.#transport.call('containers.copyFrom', request, { signal })
  }

  /** Copies files into a container, as `ContainerFiles.copyTo`. @throws PERMISSION_DENIED for a daemon of another user */
  async copyTo(
    id: string,
    hostPath: string,
    path: string,
    { signal, ...options }: CopyOptions = {},
  ): Promise<CopyReport> {
    this.#transport.requireOwnUser('containers.copyTo')
    const request = { id, path, hostPath: absolute(hostPath), ...options }
    return this.#transport.call('containers.copyTo', request, { signal })
  }

  /** Writes files of a container as a tar, as `ContainerFiles.pack`; this process writes the output. A failure leaves no file, and an existing one as it was. */
  async pack(
    id: string,
    path: string,
    output: string,
    { followsLink, force = false, signal }: PackFilesOptions = {},
  ): Promise<CopyReport> {
    const request = { id, path, followsLink }
    const fetchTo = async (openOutput: () => Writable) =>
      this.#transport.downloadTo('containers.pack', request, openOutput, signal)
    const descriptor = descriptorOf(output)
    if (descriptor !== undefined) return fetchTo(() => streamTo(descriptor))
    // Only a program that writes files loads it.
    const { writeOutput } = await import('../exports/index.ts')
    let report: CopyReport = { leftOut: [] }
    const mayReplace = (found: { readonly isFile: () => boolean }) => force && found.isFile()
    await writeOutput(output, { mayReplace, force, signal }, async (target) => {
      report = await fetchTo(() => streamTo(target))
    })
    return report
  }

  /** Unpacks a tar into a directory of a container, as `ContainerFiles.unpack`; this process reads the tar. */
  async unpack(
    id: string,
    tar: string | AsyncIterable<Uint8Array>,
    path: string,
    { signal }: UnpackFilesOptions = {},
  ): Promise<CopyReport> {
    return this.#transport.upload('containers.unpack', { id, path }, tarOf(tar), { signal })
  }
}

/** A slash or a dot at the end has a meaning, and stays. */
function absolute(path: string): string {
  return path.startsWith('/') ? path : `${resolve('.')}/${path}`
}
