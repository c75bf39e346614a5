import { resolve } from 'node:path'
import type {
  ContainerFiles,
  ContainerProcess,
  ContainerProcesses,
  CopyOptions,
  CopyReport,
  StopOptions,
} from '../containers/index.ts'
import type { Transport } from './transport.ts'

/**
 * Operations on the processes of a daemon's containers: those of `ContainerProcesses`, except for `exec`, `spawn` and `logs`, which the command `loam` and the
 * library have.
 */
export class RemoteProcesses
  implements Omit<Pick<ContainerProcesses, keyof ContainerProcesses>, 'exec' | 'spawn' | 'logs'>
{
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
}

/** A slash or a dot at the end has a meaning, and stays. */
function absolute(path: string): string {
  return path.startsWith('/') ? path : `${resolve('.')}/${path}`
}
