// What a program that has the library open waits for: one root filesystem more of an image that is here.
import { join } from 'node:path'
import { median } from './measure.ts'
import { openLoam } from '../../packages/loam/src/index.ts'

const ROUNDS = 60

/** Returns the medians as text. */
export async function benchLibrary(folder: string, image: string): Promise<string> {
  await using loam = await openLoam({
    flags: { root: join(folder, 'library'), state: join(folder, 'library-state') },
  })
  await loam.provision(image, { id: 'first' })
  const times: Record<'provision' | 'destroy', number[]> = { provision: [], destroy: [] }
  for (let round = 0; round < ROUNDS; round += 1) {
    const id = `second-${round}`
    const start = performance.now()
    await loam.provision(image, { id })
    const middle = performance.now()
    await loam.destroy(id)
    times.provision.push(middle - start)
    times.destroy.push(performance.now() - middle)
  }
  await loam.destroy('first')
  return `${median(times.provision).toFixed(2)} ms, destroyed in ${median(times.destroy).toFixed(2)} ms (medians of ${ROUNDS})`
}
