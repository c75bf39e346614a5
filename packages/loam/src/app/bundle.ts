import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import { LoamError } from '../errors/index.ts'
import type { RunConfig } from '../image/index.ts'
import { findExecutableInRoot, ownerInRoot, readFileInRoot } from '../linux/index.ts'
import type { ProvisionedRootfs } from '../provisioner/index.ts'
import {
  ignoreRuntime,
  makeRuntimeConfig,
  mergeCommand,
  mergeCommandInfo,
  mergeEnv,
  parseMount,
  resolveUser,
  type RuntimeMount,
  searchPath,
} from '../runtime/index.ts'
import type { RunImageOptions } from './requests.ts'
import type { ProvisionedVolume } from './results.ts'
import type { Settings } from './settings.ts'

/** Host files that a container with the host's network needs for names. */
const NETWORK_FILES: readonly string[] = ['/etc/resolv.conf', '/etc/hosts']

/** What a bundle is made of. */
export interface BundleInput {
  readonly rootfs: ProvisionedRootfs
  /** What the image says of its process. */
  readonly run: RunConfig
  readonly options: RunImageOptions
  readonly volumes: readonly ProvisionedVolume[]
  readonly settings: Pick<Settings, 'docker_ignore_runtime' | 'switch_user'>
}

/** Writes an OCI bundle for a process in a root filesystem. @throws USER_NOT_FOUND, COMMAND_NOT_FOUND, COMMAND_NOT_EXECUTABLE, USAGE */
export function writeBundle(bundlePath: string, input: BundleInput): void {
  const { rootfs, options, settings } = input
  const run = settings.docker_ignore_runtime ? ignoreRuntime(input.run) : input.run
  const text = (path: string) => readFileInRoot(rootfs.rootfsPath, path)?.toString('utf8')
  const imageUser = settings.switch_user ? run.user : `${process.getuid?.() ?? 0}:${process.getgid?.() ?? 0}`
  const user = resolveUser(options.user ?? imageUser, {
    passwd: text('/etc/passwd'),
    group: text('/etc/group'),
    ownerOf: (path) => ownerInRoot(rootfs.rootfsPath, path),
  })
  const terminal = options.terminal ?? false
  const args = commandOf(run, options)
  const env = mergeEnv(run, { env: options.env ?? [], terminal }, user.home)
  const cwd = posix.join('/', options.workingDir ?? (run.workingDir === '' ? '/' : run.workingDir))
  const mounts = [...input.volumes.map(mountOfVolume), ...(options.mounts ?? []).map(parseMount)]
  checkCommand(rootfs.rootfsPath, args, { env, cwd, mounts })
  const config = makeRuntimeConfig({
    rootfsPath: rootfs.rootfsPath,
    isReadOnly: rootfs.isReadOnly || options.isReadOnly === true,
    args,
    env,
    cwd,
    user,
    terminal,
    hostname: rootfs.containerId.replaceAll('/', '-').slice(0, 63),
    mounts: [...networkMounts(rootfs), ...mounts],
  })
  mkdirSync(bundlePath, { recursive: true, mode: 0o700 })
  writeFileSync(join(bundlePath, 'config.json'), JSON.stringify(config, undefined, 2), {
    mode: 0o600,
  })
}

function commandOf(
  run: RunConfig,
  { commandInfo, command = [], entrypoint, shell }: RunImageOptions,
): string[] {
  if (commandInfo !== undefined) return mergeCommandInfo(run, commandInfo)
  if (shell !== undefined) return mergeCommand(run, { value: shell, args: [], shell: true })
  return mergeCommand(run, { value: entrypoint, args: command, shell: false })
}

function mountOfVolume({ rootfs, containerPath, isReadOnly }: ProvisionedVolume): RuntimeMount {
  return {
    destination: containerPath,
    type: 'bind',
    source: rootfs.rootfsPath,
    options: ['rbind', 'rprivate', isReadOnly ? 'ro' : 'rw'],
  }
}

/** In a read-only root filesystem a file can only be covered where there is one. */
function networkMounts(rootfs: ProvisionedRootfs): RuntimeMount[] {
  const canCover = (path: string) =>
    !rootfs.isReadOnly || readFileInRoot(rootfs.rootfsPath, path) !== undefined
  return NETWORK_FILES.filter((path) => existsSync(path) && canCover(path)).map((path) => ({
    destination: path,
    type: 'bind',
    source: path,
    options: ['rbind', 'rprivate', 'ro'],
  }))
}

/** The runtime would say it, too, but in its own words and with a status that cannot be told from the process's own. */
function checkCommand(
  root: string,
  args: readonly string[],
  { env, cwd, mounts }: { env: readonly string[]; cwd: string; mounts: readonly RuntimeMount[] },
): void {
  const [command] = args
  if (command === undefined || command === '') {
    throw new LoamError('COMMAND_NOT_FOUND', 'run: the image names no command, and none was given', {
      hint: 'Write the command after the image: loam run IMAGE -- /bin/sh',
    })
  }
  const candidates = command.includes('/')
    ? [posix.resolve(cwd, command)]
    : searchPath(env).map((directory) => posix.resolve(cwd, directory, command))
  // What a mount will bring cannot be looked up before it is mounted.
  const isCovered = (path: string) =>
    mounts.some(({ destination }) => `${path}/`.startsWith(posix.join(destination, '/')))
  if (candidates.some(isCovered)) return
  const found = candidates.map((path) => findExecutableInRoot(root, path))
  if (found.includes('executable')) return
  if (found.includes('not-executable') || found.includes('directory')) {
    throw new LoamError(
      'COMMAND_NOT_EXECUTABLE',
      `run ${JSON.stringify(command)}: the image has it, and it cannot be executed`,
    )
  }
  throw new LoamError('COMMAND_NOT_FOUND', `run ${JSON.stringify(command)}: the image has no such program`, {
    hint: command.includes('/') ? undefined : `Looked in ${searchPath(env).join(', ')}.`,
  })
}
