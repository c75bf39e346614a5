import type { BackendName, Probe } from '../backends/index.ts'
import { isLoamError } from '../errors/index.ts'
import { hasIsal } from '../compression/index.ts'
import { hostPlatform, kernelRelease } from '../linux/index.ts'
import { findRuntime, type RuntimePaths } from '../containers/index.ts'
import type { HostReport } from './results.ts'
import type { StoreServices } from './wiring.ts'

/** Reports which backends work on this machine, and why the others do not. */
export async function reportHost(
  {
    provisioner,
    limited,
    layers,
    paths,
    configuration,
  }: Pick<StoreServices, 'provisioner' | 'limited' | 'layers' | 'paths' | 'configuration'>,
  runtimePaths: RuntimePaths,
): Promise<HostReport> {
  const { rootless } = configuration
  let chosen: BackendName | undefined
  try {
    chosen = provisioner.chooseBackend(configuration.values.image_provisioner_backend).name
  } catch (error) {
    if (!isLoamError(error)) throw error
  }
  return {
    kernel: kernelRelease(),
    platform: hostPlatform(),
    node: process.version,
    isRoot: rootless === undefined,
    ...(rootless === undefined ? {} : { rootless }),
    root: paths.root,
    backends: provisioner.probe().map((backend) => ({ ...backend, isDefault: backend.name === chosen })),
    sizeLimits: limited.probe(),
    lazy: probeLazy(await layers.partial.whyOff()),
    runtime: probeRuntime(runtimePaths),
    inflate: hasIsal() ? 'isal' : 'zlib',
  }
}

function probeLazy(reason: string | undefined): Probe {
  return reason === undefined ? { isSupported: true } : { isSupported: false, reason }
}

function probeRuntime(runtimePaths: RuntimePaths): Probe {
  try {
    return { isSupported: true, note: findRuntime(runtimePaths) }
  } catch (error) {
    if (!isLoamError(error)) return { isSupported: false, reason: String(error) }
    const { message, hint } = error
    return { isSupported: false, reason: hint === undefined ? message : `${message}. ${hint}` }
  }
}
