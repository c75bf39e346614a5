import type { BackendName, Probe } from '../backends/index.ts'
import { isLoamError } from '../errors/index.ts'
import { hasIsal } from '../compression/index.ts'
import { hostPlatform, isRoot, kernelRelease } from '../linux/index.ts'
import { findRuntime, type RuntimePaths } from '../containers/index.ts'
import type { HostReport } from './results.ts'
import type { StoreServices } from './wiring.ts'

/** Reports which backends work on this machine, and why the others do not. */
export function reportHost(
  {
    provisioner,
    limited,
    paths,
    configuration,
  }: Pick<StoreServices, 'provisioner' | 'limited' | 'paths' | 'configuration'>,
  runtimePaths: RuntimePaths,
): HostReport {
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
    isRoot: isRoot(),
    root: paths.root,
    backends: provisioner.probe().map((backend) => ({ ...backend, isDefault: backend.name === chosen })),
    sizeLimits: limited.probe(),
    runtime: probeRuntime(runtimePaths),
    inflate: hasIsal() ? 'isal' : 'zlib',
  }
}

function probeRuntime(runtimePaths: RuntimePaths): Probe {
  try {
    return { isSupported: true, note: findRuntime(runtimePaths) }
  } catch (error) {
    return { isSupported: false, reason: isLoamError(error) ? (error.hint ?? error.message) : String(error) }
  }
}
