import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import { LoamError } from '../errors/index.ts'
import type { RunConfig } from '../image/index.ts'
import { findExecutableInRoot, readFileInRoot } from '../linux/index.ts'
import type { ProvisionedRootfs } from '../provisioner/index.ts'
import {
  makeRuntimeConfig,
  mergeCommand,
  mergeEnv,
  parseMount,
  resolveUser,
  type RuntimeMount,
  searchPath,
} from '../runtime/index.ts'
import type { RunImageOptions } from './requests.ts'

/** Host files that a container with the host's network needs for names. */
const NETWORK_FILES: readonly string[] = ['/etc/resolv.conf', '/etc/hosts']

/** Writes an OCI bundle for a process in a root filesystem. @throws USER_NOT_FOUND, COMMAND_NOT_FOUND, COMMAND_NOT_EXECUTABLE, USAGE */
export function writeBundle(
  bundlePath: string,
  rootfs: ProvisionedRootfs,
  run: RunConfig,
  options: RunImageOptions,
): void {
  const text = (path: string) => readFileInRoot(rootfs.rootfsPath, path)?.toString('utf8')
  const user = resolveUser(options.user ?? run.user, {
    passwd: text('/etc/passwd'),
    group: text('/etc/group'),
  })
  const request = {
    command: options.command ?? [],
    env: options.env ?? [],
    workingDir: options.workingDir,
    user: options.user,
    terminal: options.terminal ?? false,
  }
  const args = mergeCommand(run, request.command)
  const env = mergeEnv(run, request, user.home)
  const cwd = posix.join('/', options.workingDir ?? (run.workingDir === '' ? '/' : run.workingDir))
  const mounts = (options.mounts ?? []).map(parseMount)
  checkCommand(rootfs.rootfsPath, args, { env, cwd, mounts })
  const config = makeRuntimeConfig({
    rootfsPath: rootfs.rootfsPath,
    isReadOnly: rootfs.isReadOnly || options.isReadOnly === true,
    args,
    env,
    cwd,
    user,
    terminal: request.terminal,
    hostname: rootfs.containerId.replaceAll('/', '-').slice(0, 63),
    mounts: [...networkMounts(rootfs), ...mounts],
  })
  mkdirSync(bundlePath, { recursive: true, mode: 0o700 })
  writeFileSync(join(bundlePath, 'config.json'), JSON.stringify(config, undefined, 2), {
    mode: 0o600,
  })
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
