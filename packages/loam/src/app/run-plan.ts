import { type Confinement, planConfinement, readEnv } from '../runtime/index.ts'
import { hostRights, readSeccompProfile } from './host-rights.ts'
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
): RunPlan {
  const { volumes, mounts } = splitMounts(options.mounts ?? [])
  const env = readEnv(options.env ?? [], ownEnv)
  const confinement = planConfinement(options, hostRights(), readSeccompProfile)
  for (const text of confinement.notes) options.onEvent?.({ kind: 'note', text })
  return { volumes: [...volumes, ...(options.volumes ?? [])], mounts, env, confinement }
}
