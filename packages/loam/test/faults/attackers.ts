// attackers: operations on a container that is hostile all the while, by each backend.
import { type Attack, type AttackPlace, BACKENDS } from './attacks/attack.ts'
import { packingAttacks } from './attacks/packing.ts'
import { readingAttacks } from './attacks/reading.ts'
import { checkEmptied } from './invariants.ts'
import { volumeAttacks } from './attacks/volumes.ts'
import type { Group } from './outcome.ts'
import { Store } from './scene.ts'

const ATTACKS: readonly Attack[] = [...volumeAttacks, ...packingAttacks, ...readingAttacks]

const SHORT_MS = 300
const SHORT_ROUNDS = 12
const LONG_MS = 60_000

/** Each attack by each backend is a round: all of them, a minute each, in the long form, else some that the seed chooses. `--rounds` sets the number. */
export const attackers: Group = {
  id: 'attackers',
  what: 'containers that change their files while something is done with them',
  run: async ({ scene, isLong, onlyRound }, outcome) => {
    const cases = ATTACKS.flatMap((attack) =>
      (attack.backends ?? BACKENDS).map((backend) => ({ attack, backend })),
    )
    await outcome.repeatCases(cases, SHORT_ROUNDS, async (one, random) => {
      using store = new Store()
      const end = performance.now() + (isLong ? LONG_MS : SHORT_MS)
      const done = new Set<string>()
      const place: AttackPlace = {
        scene,
        store,
        random,
        backend: one.backend,
        isTime: () => performance.now() < end,
        count: (name, by = 1) => {
          if (by > 0) done.add(name)
          outcome.count(name, by)
        },
      }
      const wrong = [...(await tell(one.attack.run(place))), ...(await tell(checkEmptied(store)))]
      // An attacker that does nothing proves nothing.
      if (!done.has('turns')) wrong.push('the attacker did nothing')
      if (onlyRound !== undefined) console.log(`     ${one.attack.name} by ${one.backend}`)
      return wrong.map((sentence) => `${one.attack.name} by ${one.backend}: ${sentence}`)
    })
  },
}

/** An attack that makes an operation fail that has to work is a violation. */
async function tell(attack: Promise<readonly string[]>): Promise<readonly string[]> {
  return attack.catch((error: unknown) => [
    error instanceof Error ? String(error.stack).slice(0, 1500) : String(error),
  ])
}
