// Volumes of a container that changes the directories above their places.
import { mkdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { isLoamError } from '../../../src/index.ts'
import { addImage, type Attack, Attacker, type AttackPlace, checkVictim, makeVictim } from './attack.ts'

const CONTAINER = 'web'

const showVolumes: Attack = {
  name: 'volumes are shown and taken away in a directory that turns into a symlink',
  run: async (place) => attackVolumes(place),
}

const recoverVolumes: Attack = {
  name: 'volumes are recovered in a directory that turns into a symlink',
  run: async (place) => attackVolumes(place, { recovers: true }),
}

export const volumeAttacks: readonly Attack[] = [showVolumes, recoverVolumes]

async function attackVolumes(
  { scene, store, backend, isTime, count }: AttackPlace,
  { recovers = false } = {},
): Promise<string[]> {
  const base = addImage(scene, 'hostile', [{ name: 'file', data: 'x' }])
  const volume = addImage(scene, 'volume', [{ name: 'from-the-image', data: 'x' }])
  const victim = makeVictim(store, 'vol')
  await using loam = await store.open()
  const wrong = new Set<string>()
  while (isTime() && wrong.size === 0) {
    // Nothing can be written to what bind makes.
    const rootBackend = backend === 'bind' ? 'overlay' : backend
    const { rootfsPath } = await loam.provision(base, { id: CONTAINER, backend: rootBackend })
    // Of the container's own making: overlayfs renames no directory that comes from below.
    mkdirSync(`${rootfsPath}/data/vol`, { recursive: true })
    const trick = { kind: 'swap', path: `${rootfsPath}/data`, symlink: victim } as const
    {
      await using attacker = await Attacker.start([trick])
      for (let times = 0; times < 20 && isTime(); times += 1) {
        try {
          await loam.provisionVolumes([{ image: volume, target: '/data/vol' }], { id: CONTAINER, backend })
          count('volumes shown')
        } catch (error) {
          if (!isLoamError(error, 'VOLUMES_FAILED')) throw error
          count('volumes refused')
        }
        if (recovers && times % 4 === 3) {
          store.unmountVolumes(rootfsPath)
          const { failed } = await loam.recover()
          count('volumes not recovered', failed.length)
        }
        for (const sentence of checkVictim(store, 'vol')) wrong.add(sentence)
      }
      await sleep(5)
      if (!recovers) await loam.destroy(CONTAINER)
      count('turns', attacker.turns)
    }
    await loam.destroy(CONTAINER)
    for (const sentence of checkVictim(store, 'vol')) wrong.add(sentence)
  }
  return [...wrong]
}
