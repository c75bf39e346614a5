// Volumes of containers that change the directories above their targets, in root filesystems and in sandboxes of this machine.
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { ImageVolume, VolumeOptions } from '../../../src/containers/index.ts'
import { isLoamError } from '../../../src/errors/index.ts'
import type { Loam } from '../../../src/app/index.ts'
import { findMountsBelow, unmountEach } from '../../../src/linux/index.ts'
import {
  addImage,
  type Attack,
  Attacker,
  type AttackPlace,
  checkVictim,
  createVictim,
  removeVictim,
} from './attack.ts'

const showVolumes: Attack = {
  name: 'volumes are shown and taken away in a directory that turns into a symlink',
  run: async (place) => attackVolumes(place, async () => Promise.resolve()),
}

const recoverVolumes: Attack = {
  name: 'volumes are recovered in a directory that turns into a symlink',
  run: async (place) =>
    attackVolumes(place, async (loam, folders) => {
      unmountEach((table) =>
        folders.flatMap((folder) => findMountsBelow(folder, table).filter(({ target }) => target !== folder)),
      )
      const { failed, restored } = await loam.recover()
      place.count('volumes not recovered', failed.length)
      place.count('volumes recovered', restored.length)
    }),
}

export const volumeAttacks: readonly Attack[] = [showVolumes, recoverVolumes]

/** The root of the volumes: the container's root filesystem, or a sandbox for a container without one. */
const CONTAINERS = ['web', 'job'] as const

async function attackVolumes(
  place: AttackPlace,
  disturb: (loam: Loam, folders: readonly string[]) => Promise<void>,
): Promise<string[]> {
  const { scene, store, backend, isTime, count } = place
  const base = addImage(scene, 'hostile', [{ name: 'file', data: 'x' }])
  const volume = addImage(scene, 'volume', [{ name: 'from-the-image', data: 'x' }])
  const victim = createVictim(store, 'vol')
  const sandbox = join(store.folder, 'sandbox')
  await using loam = await store.open()
  const wrong = new Set<string>()
  const look = () => {
    for (const sentence of checkVictim(store, 'vol')) wrong.add(sentence)
  }
  do {
    // Root filesystems of bind are read-only.
    const own = backend === 'bind' ? 'overlay' : backend
    const { rootfsPath } = await loam.provision(base, { id: 'web', backend: own })
    const folders = [rootfsPath, sandbox]
    // Created by the container: overlayfs cannot rename a directory of a lower layer.
    for (const folder of folders) mkdirSync(join(folder, 'data/vol'), { recursive: true })
    const tricks = folders.flatMap((folder) =>
      ['data', 'data/vol'].map((name) => {
        const path = join(folder, name)
        return { kind: 'swap', path, symlink: name === 'data' ? victim : join(victim, 'vol') } as const
      }),
    )
    {
      await using attacker = await Attacker.start(tricks)
      for (let times = 0; times === 0 || (times < 5 && isTime()); times += 1) {
        for (const id of CONTAINERS) {
          const target = id === 'web' ? '/data/vol' : 'data/vol'
          const isShown = await show(loam, { image: volume, target }, { id, backend, sandbox })
          count(isShown ? 'volumes shown' : 'volumes refused')
        }
        if (times % 2 === 0) await disturb(loam, folders)
        look()
      }
      // While the attacker is at work.
      for (const id of CONTAINERS) await loam.destroy(id)
      count('turns', attacker.turns)
    }
    look()
    rmSync(sandbox, { recursive: true, force: true })
    const left = store
      .mounts()
      .filter((target) => target.startsWith(join(store.root, 'containers')) || target.startsWith(sandbox))
    for (const target of left) wrong.add(`destroy left a mount: ${target}`)
  } while (isTime() && wrong.size === 0)
  removeVictim(store, 'vol')
  return [...wrong]
}

/** Returns whether it was mounted; a refusal with the reason is as good. */
async function show(loam: Loam, volume: ImageVolume, options: VolumeOptions): Promise<boolean> {
  try {
    await loam.containers.provisionVolumes([volume], options)
    return true
  } catch (error) {
    if (isLoamError(error, 'VOLUMES_FAILED')) return false
    throw error
  }
}
