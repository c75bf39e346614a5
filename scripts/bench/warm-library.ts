// A process that has the library open, as the daemon has: it provisions each image that it is asked for by a named pipe, and answers
// with the path by another one. Called with the module, the folder of both pipes and the store, and images to warm up with.
import { createReadStream, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type * as Library from '../../packages/loam/src/index.ts'

const [module = '', folder = '', ...warmUpImages] = process.argv.slice(2)
const { openLoam } = (await import(module)) as typeof Library

await warmUp()
await serve()
// A thread still waits for the pipe, and an orderly end would wait for that.
process.kill(process.pid, 'SIGKILL')

/** Answers until it is told to end. */
async function serve(): Promise<void> {
  await using loam = await openLoam({ flags: { root: `${folder}/store`, state: `${folder}/state` } })
  writeFileSync(`${folder}/ready`, '')
  // Opened for writing, too: it does not end when one who asks closes it.
  const input = createReadStream(`${folder}/ask`, { flags: 'r+' })
  for await (const line of createInterface({ input })) {
    if (line === 'end') return
    writeFileSync(`${folder}/answer`, `${await act(loam, line.split(' '))}\n`)
  }
}

/** Does one thing, and returns a path or what went wrong. */
async function act(loam: Library.Loam, [verb = '', id = '', image = '']: readonly string[]): Promise<string> {
  try {
    switch (verb) {
      case 'provision':
        return (await loam.provision(image, { id })).rootfsPath
      case 'destroy':
        await loam.destroy(id)
        return 'done'
      default:
        await loam.destroy(id)
        await loam.images.remove(image)
        await loam.images.prune()
        return 'done'
    }
  } catch (error) {
    return `failed: ${String(error)}`
  }
}

/** Machine code is made of what runs often: what is measured is a process that has worked before. */
async function warmUp(): Promise<void> {
  const scratch = mkdtempSync(join(tmpdir(), 'loam-warm-'))
  try {
    await using other = await openLoam({ flags: { root: `${scratch}/store`, state: `${scratch}/state` } })
    for (const [index, image] of warmUpImages.entries()) {
      await other.provision(image, { id: `warm-${index}` })
      await other.destroy(`warm-${index}`)
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}
