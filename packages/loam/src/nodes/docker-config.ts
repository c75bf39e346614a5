import { SNAPSHOTTER_NAME } from './containerd-config.ts'

/** What the configuration of Docker depends on. */
export interface DockerSetup {
  /** Name of the snapshotter in containerd's configuration. Undefined: `loam`. */
  readonly name?: string
}

/**
 * Returns the configuration of Docker for Loam, as JSON. The socket of containerd is not in it: the units of Docker's packages give it on the
 * command line, and Docker refuses an option that is in both places.
 */
export function dockerConfig({ name = SNAPSHOTTER_NAME }: DockerSetup = {}): string {
  const settings = { features: { 'containerd-snapshotter': true }, 'storage-driver': name }
  return `${JSON.stringify(settings, undefined, 2)}\n`
}
