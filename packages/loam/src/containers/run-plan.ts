import { existsSync } from 'node:fs'
import { posix } from 'node:path'
import type { StorePaths } from '../content/index.ts'
import { LoamError } from '../errors/index.ts'
import { findMountsShowing, followHostPath, readMountTable } from '../linux/index.ts'
import {
  checkHostname,
  type Confinement,
  parseMount,
  parseTmpfs,
  planConfinement,
  readEnv,
} from '../runtime/index.ts'
import { checkNamespace, hostRights, readSeccompProfile } from './host-rights.ts'
import { checkTargets } from './mount-order.ts'
import type { ImageVolume, RunImageOptions } from './requests.ts'
import { splitMounts } from './volumes.ts'

/** The parts of a run in addition to its image. */
export interface RunPlan {
  readonly volumes: readonly ImageVolume[]
  /** Mounts in the syntax of `--mount`, without images. */
  readonly mounts: readonly string[]
  /** `KEY=VALUE`. */
  readonly env: readonly string[]
  readonly confinement: Confinement
}

/** The context of a run in addition to its options. */
export interface RunSurroundings {
  /** Environment that `--env KEY` takes values from. */
  readonly env: Readonly<Record<string, string | undefined>>
  /** Directory that relative paths start from; '' for that of this process. */
  readonly cwd: string
  readonly paths: Pick<StorePaths, 'containers' | 'snapshots'>
}

/** Plans a run before anything is pulled or created, with notes for the user. @throws USAGE */
export function planRun(options: RunImageOptions, { env: ownEnv, cwd, paths }: RunSurroundings): RunPlan {
  const { volumes, mounts } = splitMounts(options.mounts ?? [])
  const parsed = mounts.map(parseMount)
  const images = [...volumes, ...(options.volumes ?? [])]
  checkTargets(
    [...parsed, ...(options.tmpfs ?? []).map(parseTmpfs)]
      .map(({ destination }) => destination)
      .concat([...images, ...(options.hostMounts ?? [])].map(({ target }) => target)),
  )
  const binds = parsed.filter(({ type }) => type === 'bind')
  checkSources(
    [...binds.map(({ source }) => source), ...(options.hostMounts ?? []).map(({ hostPath }) => hostPath)],
    paths,
  )
  for (const { source, destination } of binds) checkExists(source, destination)
  for (const { hostPath, target } of options.hostMounts ?? []) checkExists(hostPath, target)
  const env = readEnv(options.env ?? [], ownEnv)
  if (options.hostname !== undefined) checkHostname(options.hostname)
  const rights = hostRights(options.starter?.capabilities)
  const confinement = planConfinement(options, rights, (path) => readSeccompProfile(path, cwd))
  if (confinement.network.kind === 'namespace') checkNamespace(confinement.network.path)
  for (const text of confinement.notes) options.onEvent?.({ kind: 'note', text, isAdvice: true })
  return { volumes: images, mounts, env, confinement }
}

/** Runtimes would create a directory on this machine. @throws USAGE */
function checkExists(hostPath: string, target: string): void {
  if (existsSync(hostPath)) return
  throw new LoamError('USAGE', `mount ${hostPath} at ${target}: it does not exist`, {
    hint: 'Create it, or check its name.',
  })
}

/**
 * Refuses paths that other containers can write to: when the runtime resolves them, a container may have redirected them to any path of this
 * machine. These are paths in the store, and in other mounts of it: volumes, and mounts of containerd or an administrator.
 * @throws USAGE
 */
function checkSources(
  sources: readonly string[],
  { containers, snapshots }: Pick<StorePaths, 'containers' | 'snapshots'>,
): void {
  if (sources.length === 0) return
  const table = readMountTable()
  const shown = [containers, snapshots].flatMap((folder) => findMountsShowing(folder, table))
  const roots = new Set([containers, snapshots, ...shown.map(({ target }) => target)])
  for (const source of sources) {
    // A runtime may take `..` out of the text, or leave it to the kernel, for which it is behind a symlink another directory.
    for (const path of [source, posix.normalize(source)]) {
      if (followHostPath(path, (each) => roots.has(each)).root !== '/') throw inContainer(source)
    }
  }
}

function inContainer(source: string): LoamError {
  return new LoamError(
    'USAGE',
    `mount ${source}: a container writes to this directory and can redirect the path at any time`,
    {
      hint: 'Mount a directory of this machine that both containers share, or an image: type=image,source=IMAGE,target=PATH.',
    },
  )
}
