import { createHash } from 'node:crypto'
import { chmodSync, existsSync, writeFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import { LoamError } from '../errors/index.ts'
import type { RunConfig } from '../image/index.ts'
import { createDirectories, hostPlatform, type IdMapping, readFileInRoot } from '../linux/index.ts'
import type { ProvisionedRootfs } from '../provisioner/index.ts'
import {
  bindOptions,
  checkWords,
  type Confinement,
  execHelper,
  hostBindOptions,
  ignoreRuntime,
  createRuntimeConfig,
  mergeCommand,
  mergeCommandInfo,
  mergeEnv,
  type Network,
  parseMount,
  parseTmpfs,
  programOf,
  resetEntrypoint,
  sizeAtStart,
  type RuntimeMount,
  variablesOf,
  type TerminalSize,
} from '../runtime/index.ts'
import { DETACHED_TERMINAL } from './detached-run.ts'
import { isSignal, STOP_SIGNAL } from './signals.ts'
import { findCommand } from './find-command.ts'
import { orderMounts } from './mount-order.ts'
import { findProcessUser } from './process-user.ts'
import type { HostMount, RunImageOptions } from './requests.ts'
import type { ProvisionedVolume } from './results.ts'
import type { Settings } from '../config/index.ts'
import { rootfsInBundle } from './user-namespace.ts'
import { containerPath as pathInContainer } from './volumes.ts'

/** The parts of a bundle. */
export interface BundleInput {
  readonly rootfs: ProvisionedRootfs
  /** The user namespace of the container. Undefined: that of this process. */
  readonly idMapping: IdMapping | undefined
  /** The process settings of the image. */
  readonly run: RunConfig
  readonly options: RunImageOptions
  readonly volumes: readonly ProvisionedVolume[]
  readonly confinement: Confinement
  readonly settings: Pick<Settings, 'docker_ignore_runtime' | 'sandbox_directory' | 'switch_user'>
}

/** Name of a container's cgroup, which no other bundle of the machine has. */
export function cgroupOf(bundlePath: string): string {
  return `loam-${createHash('sha256').update(bundlePath).digest('hex').slice(0, 32)}`
}

/** Writes an OCI bundle for a process in a root filesystem. @throws USER_NOT_FOUND, COMMAND_NOT_FOUND, COMMAND_NOT_EXECUTABLE, USAGE */
export function writeBundle(bundlePath: string, input: BundleInput): void {
  const { rootfs, options, settings, confinement, idMapping } = input
  const { commandInfo = {} } = options
  const run = settings.docker_ignore_runtime ? ignoreRuntime(input.run) : resetEntrypoint(input.run)
  const ids = idMapping ?? confinement.namespace
  const user = findProcessUser({ rootfsPath: rootfs.rootfsPath, ...input }, run)
  const terminal = options.terminal ?? false
  const argv = commandOf(run, options)
  const env = mergeEnv(
    run,
    { env: [...variablesOf(commandInfo), ...(options.env ?? [])], terminal },
    user.home,
  )
  checkWords(argv, env)
  const cwd = posix.join('/', options.workingDir ?? (run.workingDir === '' ? '/' : run.workingDir))
  const { sandbox_directory: sandboxDirectory } = settings
  const mounts = [
    ...input.volumes.map(mountOfVolume),
    ...(options.hostMounts ?? []).map((mount) => mountOfHost(mount, sandboxDirectory)),
    ...(options.mounts ?? []).map(parseMount),
    ...(options.tmpfs ?? []).map(parseTmpfs),
  ]
  const program = programOf(commandInfo) ?? argv[0]
  const path = findCommand(program, { rootfsPath: rootfs.rootfsPath, env, cwd, mounts })
  const hostname = options.hostname ?? rootfs.containerId.replaceAll('/', '-').slice(0, 63)
  createDirectories(bundlePath)
  const started =
    program === argv[0] ? { args: argv, mounts } : nameProcess(bundlePath, { path, argv, mounts })
  const config = createRuntimeConfig({
    rootfsPath: idMapping === undefined ? rootfs.rootfsPath : rootfsInBundle(bundlePath),
    idMapping: ids,
    isReadOnly: rootfs.isReadOnly || options.isReadOnly === true,
    args: started.args,
    env,
    cwd,
    user,
    terminal,
    terminalSize: terminalSizeOf(options),
    hostname,
    mounts: orderMounts(
      networkMounts(bundlePath, { rootfs, hostname, network: confinement.network }),
      started.mounts,
    ),
    confinement,
    cgroup: cgroupOf(bundlePath),
    annotations: annotationsOf(run),
  })
  writeFileSync(join(bundlePath, 'config.json'), JSON.stringify(config, undefined, 2), {
    mode: 0o600,
  })
}

/** A detached process has a terminal of its own, with a size of its own. */
function terminalSizeOf({ terminalSize, detach, starter }: RunImageOptions): TerminalSize | undefined {
  if (detach === true) return DETACHED_TERMINAL
  return sizeAtStart(terminalSize, starter === undefined)
}

function annotationsOf({ stopSignal }: RunConfig): Record<string, string> {
  return isSignal(stopSignal) ? { [STOP_SIGNAL]: stopSignal } : {}
}

function commandOf(
  run: RunConfig,
  { commandInfo, command = [], entrypoint, shell }: RunImageOptions,
): string[] {
  if (commandInfo !== undefined) return mergeCommandInfo(run, commandInfo)
  if (shell !== undefined) return mergeCommand(run, { value: shell, args: [], shell: true })
  return mergeCommand(run, { value: entrypoint, args: command, shell: false })
}

const EXEC_HELPER_PATH = '/dev/.loam-exec'

/** A process as the runtime starts it. */
interface StartedProcess {
  readonly args: readonly string[]
  readonly mounts: readonly RuntimeMount[]
}

/**
 * Writes a program that starts another one under a different name into the bundle, and returns how the runtime calls it: it is visible in the
 * container's own /dev, so that nothing of it is in the root filesystem. @throws USAGE
 */
function nameProcess(
  bundlePath: string,
  { path, argv, mounts }: { path: string; argv: readonly string[]; mounts: readonly RuntimeMount[] },
): StartedProcess {
  const { architecture } = hostPlatform()
  const helper = execHelper(architecture)
  const fail = (why: string) =>
    new LoamError('USAGE', `run ${path} as ${JSON.stringify(argv[0])}: ${why}`, {
      hint: 'Make the first of "arguments" the same as "value".',
    })
  if (helper === undefined) throw fail(`a program cannot have another name on ${architecture}`)
  if (mounts.some(({ destination }) => posix.join(destination, '/') === '/dev/'))
    throw fail('a program cannot have another name where /dev is mounted')
  const source = join(bundlePath, 'exec')
  writeFileSync(source, helper)
  // Whatever the umask is: in a user namespace the process is another user.
  chmodSync(source, 0o755)
  // The state folder may be on a file system that nothing is executed from.
  const options = ['bind', 'ro', 'exec', 'nosuid', 'nodev']
  return {
    args: [EXEC_HELPER_PATH, path, ...argv],
    mounts: [{ destination: EXEC_HELPER_PATH, type: 'bind', source, options }, ...mounts],
  }
}

function mountOfVolume({ rootfs, containerPath, isReadOnly }: ProvisionedVolume): RuntimeMount {
  return {
    destination: containerPath,
    type: 'bind',
    source: rootfs.rootfsPath,
    options: bindOptions(isReadOnly),
  }
}

function mountOfHost({ hostPath, target, isReadOnly }: HostMount, sandboxDirectory: string): RuntimeMount {
  return {
    destination: pathInContainer(target, sandboxDirectory),
    type: 'bind',
    source: hostPath,
    options: hostBindOptions(isReadOnly === true),
  }
}

/**
 * Provides the files for resolving host names: with a separate network only the container's own names, as nothing else can be reached, else
 * those of this machine. In a read-only root filesystem a file can only be covered if it exists.
 */
function networkMounts(
  bundlePath: string,
  { rootfs, hostname, network }: { rootfs: ProvisionedRootfs; hostname: string; network: Network },
): RuntimeMount[] {
  const sources: Record<string, string> = {
    '/etc/hosts': '/etc/hosts',
    '/etc/resolv.conf': '/etc/resolv.conf',
  }
  if (network.kind !== 'host') {
    sources['/etc/hosts'] = join(bundlePath, 'hosts')
    writeFileSync(sources['/etc/hosts'], hostsFile(hostname))
    chmodSync(sources['/etc/hosts'], 0o644)
  }
  if (network.kind === 'none') delete sources['/etc/resolv.conf']
  const canCover = (path: string) =>
    !rootfs.isReadOnly || readFileInRoot(rootfs.rootfsPath, path) !== undefined
  return Object.entries(sources)
    .filter(([path, source]) => existsSync(source) && canCover(path))
    .map(([destination, source]) => ({
      destination,
      type: 'bind',
      source,
      options: [...bindOptions(true), 'noexec'],
    }))
}

function hostsFile(hostname: string): string {
  return `127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t${hostname}\n`
}
