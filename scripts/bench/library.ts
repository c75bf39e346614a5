// The time of calls for a program that has the library open, as the daemon has: a pull, and one more root filesystem of an image in the store.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { median } from './measure.ts'
import { type BenchTool, run } from './tools.ts'
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

/** The library in a process that has worked before, asked by named pipes, which cost nothing. */
export function warmLibraryTool(module: string, warmUpImages: readonly string[]): BenchTool {
  const script = fileURLToPath(new URL('./warm-library.ts', import.meta.url))
  const ask = (folder: string, words: string) =>
    `echo ${words} > ${folder}/ask; read -r answer < ${folder}/answer; case $answer in failed*) echo "$answer"; exit 1;; esac`
  let child: ChildProcess | undefined
  return {
    name: 'loam, warm library',
    prepare: async (folder, group) => {
      run(`mkfifo ${folder}/ask ${folder}/answer`)
      child = spawn(process.execPath, [script, module, folder, ...warmUpImages], {
        stdio: ['ignore', 'ignore', 'inherit'],
      })
      if (child.pid === undefined) throw new Error('the library did not start')
      group.addProcess(child.pid)
      for (let tries = 0; tries < 3000 && !existsSync(`${folder}/ready`); tries += 1) await sleep(20)
      await sleep(300)
    },
    command: (folder, image) => `${ask(folder, `provision bench ${image}`)}; echo "$answer" > ${folder}/path`,
    check: (folder) => `ls $(cat ${folder}/path)`,
    second: (folder, image) => ask(folder, `provision second ${image}`),
    destroy: (folder) => ask(folder, 'destroy second'),
    remove: (folder, image) => ask(folder, `remove bench ${image}`),
    cleanUp: async (folder) => {
      run(`echo end > ${folder}/ask`)
      if (child?.exitCode === null) await once(child, 'exit')
    },
  }
}
