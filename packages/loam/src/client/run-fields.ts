import { resolve } from 'node:path'
import type { Conversations, RequestOf } from '../api/index.ts'
import type { RunImageOptions } from '../containers/index.ts'
import { readEnv, sizeAtStart } from '../runtime/index.ts'
import { absoluteImage, type RemoteFetchOptions } from './requests.ts'

/** Options of `run` over a daemon: this process starts the OCI runtime. */
export type RemoteRunOptions = RemoteFetchOptions<Omit<RunImageOptions, 'starter'>>

type RunFields = Omit<RequestOf<Conversations['containers.run']>, 'image' | 'capabilities'>

/** Returns the fields of a request to run a container. Values from the environment and paths are those of this process. @throws USAGE */
export function toRunFields(options: RemoteRunOptions): RunFields {
  const { command, commandInfo, entrypoint, shell, env, workingDir, user, mounts, volumes } = options
  const {
    hostMounts,
    hostname,
    keep,
    terminal,
    terminalSize,
    network,
    capAdd,
    capDrop,
    securityOpts,
    pidsLimit,
  } = options
  const { memoryBytes, cpus, tmpfs, detach, remove, keepsInput } = options
  return {
    command,
    commandInfo,
    entrypoint,
    shell,
    env: env === undefined ? undefined : readEnv(env, process.env),
    workingDir,
    user,
    mounts: mounts?.map(absoluteMount),
    volumes: volumes?.map((volume) => ({ ...volume, image: absoluteImage(volume.image) })),
    hostMounts,
    hostname,
    keep,
    terminal,
    terminalSize: sizeAtStart(terminalSize, terminal === true),
    network: network?.replace(/^ns:(.+)$/, (_all, path: string) => `ns:${resolve(path)}`),
    capAdd,
    capDrop,
    securityOpts: securityOpts?.map((option) =>
      option.replace(/^seccomp=(?!unconfined$)(.+)$/, (_all, path: string) => `seccomp=${resolve(path)}`),
    ),
    pidsLimit,
    memoryBytes,
    detach,
    remove,
    keepsInput,
    cpus,
    tmpfs,
  }
}

/** A mount may name an image by its path. */
function absoluteMount(mount: string): string {
  return mount.replaceAll(
    /(^|,)(source|src)=([^,]*)/g,
    (_all, before: string, key: string, source: string) => `${before}${key}=${absoluteImage(source)}`,
  )
}
