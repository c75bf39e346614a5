import { posix } from 'node:path'
import type { StorePaths } from '../content/index.ts'
import { LoamError } from '../errors/index.ts'
import { followHostPath } from '../linux/index.ts'
import { checkHostname, type Confinement, parseMount, planConfinement, readEnv } from '../runtime/index.ts'
import { checkNamespace, hostRights, readSeccompProfile } from './host-rights.ts'
import type { ImageVolume, RunImageOptions } from './requests.ts'
import { splitMounts } from './volumes.ts'

/** What a run will have besides its image. */
export interface RunPlan {
  readonly volumes: readonly ImageVolume[]
  /** As `--mount` has them, without images. */
  readonly mounts: readonly string[]
  /** `KEY=VALUE`. */
  readonly env: readonly string[]
  readonly confinement: Confinement
}

/** Plans a run before anything is pulled or made, and tells what a person ought to know of it. @throws USAGE */
export function planRun(
  options: RunImageOptions,
  ownEnv: Readonly<Record<string, string | undefined>>,
  paths: Pick<StorePaths, 'containers' | 'snapshots'>,
): RunPlan {
  const { volumes, mounts } = splitMounts(options.mounts ?? [])
  for (const { type, source } of mounts.map(parseMount)) if (type === 'bind') checkSource(source, paths)
  for (const { hostPath } of options.hostMounts ?? []) checkSource(hostPath, paths)
  const env = readEnv(options.env ?? [], ownEnv)
  if (options.hostname !== undefined) checkHostname(options.hostname)
  const confinement = planConfinement(options, hostRights(), readSeccompProfile)
  if (confinement.network.kind === 'namespace') checkNamespace(confinement.network.path)
  for (const text of confinement.notes) options.onEvent?.({ kind: 'note', text })
  return { volumes: [...volumes, ...(options.volumes ?? [])], mounts, env, confinement }
}

/**
 * What other containers write to may lead anywhere on this machine by the time that the runtime walks it: `source` is a text to it.
 * @throws USAGE
 */
function checkSource(
  source: string,
  { containers, snapshots }: Pick<StorePaths, 'containers' | 'snapshots'>,
): void {
  const { root } = followHostPath(
    posix.normalize(source),
    (path) => path === containers || path === snapshots,
  )
  if (root === '/') return
  throw new LoamError(
    'USAGE',
    `mount ${source}: a container writes there, and may lead it elsewhere at any moment`,
    {
      hint: 'Mount a directory of this machine that both containers share, or an image: type=image,source=IMAGE,target=PATH.',
    },
  )
}
