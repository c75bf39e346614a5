// A further process in a running container: the configuration of its first process, with what the user asks for.
import { randomBytes } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import { LoamError } from '../errors/index.ts'
import { type IdMapping, readFileInRoot, runForeground } from '../linux/index.ts'
import type { ProvisionedRootfs } from '../provisioner/index.ts'
import {
  checkWords,
  consoleOf,
  readEnv,
  type ResolvedUser,
  resolveUser,
  sizeAtStart,
} from '../runtime/index.ts'
import { readMounts, readProcessOf } from './bundle-config.ts'
import { findCommand } from './find-command.ts'
import {
  bundlePath,
  codeOfFailure,
  findStartFailure,
  runtimeCall,
  runtimeId,
  type RuntimePaths,
} from './oci-runtime.ts'
import type { ExecOptions, ProgramStart } from './requests.ts'
import { inNamespace } from './user-namespace.ts'

/** The status for a starter that was killed: no process is left to read it. */
const STARTER_GONE = 128 + 9

/** The container of a further process. */
export interface ExecContainer {
  readonly id: string
  readonly rootfs: Pick<ProvisionedRootfs, 'rootfsPath'>
  readonly idMapping: IdMapping | undefined
  /** Environment that `env` takes values from. */
  readonly ownEnv: Readonly<Record<string, string | undefined>>
}

/** Runs a process in a running container, with the standard streams of the starter. Returns its exit status. @throws as `run` */
export async function execInContainer(
  paths: RuntimePaths,
  container: ExecContainer,
  command: readonly string[],
  options: ExecOptions,
): Promise<number> {
  const { id } = container
  const bundle = bundlePath(paths, id)
  const name = `exec-${randomBytes(6).toString('hex')}`
  const [file, log, pidFile] = ['json', 'log', 'pid'].map((ending) => join(bundle, `${name}.${ending}`)) as [
    string,
    string,
    string,
  ]
  try {
    writeFileSync(file, JSON.stringify(createProcess(bundle, container, command, options)), { mode: 0o600 })
    const own = ['--process', file, '--pid-file', pidFile]
    const detach = options.detach === true ? ['--detach'] : []
    const words = ['--log', log, '--log-format', 'json', 'exec', ...detach, ...own, runtimeId(id)]
    const call = runtimeCall(paths, words)
    const program = options.detach === true ? withoutStreams(call) : call
    options.onStart?.(id)
    const start =
      options.starter?.start ?? (async ({ file: path, args, env }) => runForeground(path, args, { env }))
    const status = await start(program, { id, keep: true, pidFile })
    const failure = await findStartFailure(paths, { id, pidFile, log, status })
    if (failure !== undefined) {
      throw new LoamError(
        codeOfFailure(failure),
        `exec in ${id}: ${paths.runtime} could not start the process (${failure})`,
      )
    }
    return status ?? STARTER_GONE
  } finally {
    for (const path of [file, log, pidFile]) rmSync(path, { force: true })
  }
}

/** A process in the background must not keep the streams of its starter open. */
function withoutStreams({ file, args, env }: ProgramStart): ProgramStart {
  const line = 'exec "$@" </dev/null >/dev/null 2>&1'
  return { file: '/bin/sh', args: ['-c', line, 'loam', file, ...args], env }
}

function createProcess(
  bundle: string,
  { id, rootfs: { rootfsPath }, idMapping, ownEnv }: ExecContainer,
  command: readonly string[],
  options: ExecOptions,
): Record<string, unknown> {
  const base = readProcessOf(bundle, id)
  const asked = options.user === undefined ? undefined : userOf(options.user, rootfsPath, idMapping)
  const { uid, gid, additionalGids = [] } = asked ?? base.user
  // Without root a process has no other groups.
  const user = base.user.additionalGids === undefined ? { uid, gid } : { uid, gid, additionalGids }
  const env = mergeVariables(base.env, [
    ...(options.terminal === true ? ['TERM=xterm'] : []),
    ...(asked === undefined ? [] : [`HOME=${asked.home}`]),
    ...readEnv(options.env ?? [], ownEnv),
  ])
  const cwd = posix.join('/', options.workingDir ?? base.cwd)
  checkWords(command, env)
  // Mounts of the container are not visible here: a program that is not in the root filesystem may be in one of them.
  const mounts = readMounts(bundle)
  findCommand(command[0], { rootfsPath, env, cwd, mounts, container: id })
  const { bounding = [], ambient = [] } = base.capabilities
  const isRootUser = user.uid === 0
  const own = isRootUser ? bounding : ambient
  const kept = isRootUser ? [] : ambient
  return {
    ...base,
    ...consoleOf(options.terminal ?? false, sizeAtStart(options.terminalSize, options.starter === undefined)),
    user,
    args: command,
    env,
    cwd,
    capabilities: { bounding, effective: own, permitted: own, inheritable: kept, ambient: kept },
  }
}

function userOf(user: string, rootfsPath: string, idMapping: IdMapping | undefined): ResolvedUser {
  const text = (path: string) => readFileInRoot(rootfsPath, path)?.toString('utf8')
  const found = resolveUser(user, { passwd: text('/etc/passwd'), group: text('/etc/group') })
  const own = idMapping === undefined ? found : inNamespace(found, idMapping)
  return { ...own, additionalGids: [...new Set([own.gid, ...own.additionalGids])] }
}

/** A later variable replaces an earlier one in its place. */
function mergeVariables(base: readonly string[], more: readonly string[]): string[] {
  const merged = new Map([...base, ...more].map((entry) => [entry.slice(0, entry.indexOf('=')), entry]))
  return [...merged.values()]
}
