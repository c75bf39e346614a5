// Files of a container that Loam reads: they turn into pipes, devices, sockets and symlinks to the host's while they are opened.
import { execFileSync } from 'node:child_process'
import { closeSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isLoamError } from '../../../src/index.ts'
import {
  findExecutableInRoot,
  openRegular,
  ownerInRoot,
  readFileInRoot,
  readPartInRoot,
} from '../../../src/linux/index.ts'
import { addImage, type Attack, Attacker, type AttackPlace, createVictim, removeVictim } from './attack.ts'

const OWN = 'of the image'
const READS_AT_A_TIME = 50

const readFiles: Attack = {
  name: 'files are read that turn into pipes, devices and symlinks',
  backends: ['erofs', 'overlay', 'copy'],
  run: attackReads,
}

export const readingAttacks: readonly Attack[] = [readFiles]

async function attackReads({ scene, store, backend, isTime, count }: AttackPlace): Promise<string[]> {
  const base = addImage(scene, 'read', [{ name: 'etc/' }])
  const victim = createVictim(store, 'vol')
  await using loam = await store.open()
  const { rootfsPath } = await loam.provision(base, { id: 'web', backend })
  const path = join(rootfsPath, 'etc/passwd')
  writeFileSync(path, OWN)
  execFileSync('mknod', [`${path}.pipe`, 'p'])
  // A device without a driver: opening it is an error.
  execFileSync('mknod', [`${path}.device`, 'c', '511', '77'])
  execFileSync('ln', ['-s', join(victim, 'vol/host-file'), `${path}.link`])
  const tricks = ['pipe', 'device', 'link'].map(
    (kind) => ({ kind: 'exchange', path, other: `${path}.${kind}` }) as const,
  )
  const wrong = new Set<string>()
  {
    await using attacker = await Attacker.start(tricks)
    do {
      for (let times = 0; times < READS_AT_A_TIME; times += 1)
        for (const text of readAll(rootfsPath, path)) wrong.add(text)
      count('files read', READS_AT_A_TIME)
      count('turns', attacker.turns)
      // Messages arrive between two turns.
      await new Promise((resolve) => setImmediate(resolve))
    } while (isTime() && wrong.size === 0)
  }
  await loam.destroy('web')
  removeVictim(store, 'vol')
  return [...wrong]
}

/** Returns the bytes that were read and are not the image's. */
function readAll(root: string, path: string): string[] {
  const texts = [
    readFileInRoot(root, '/etc/passwd'),
    readPartInRoot(root, '/etc/passwd', { offset: 0, length: 20 }),
  ]
  findExecutableInRoot(root, '/etc/passwd')
  ownerInRoot(root, '/etc/passwd')
  try {
    closeSync(openRegular(path))
  } catch (error) {
    if (!isLoamError(error, 'SOURCE_INVALID')) throw error
  }
  return texts.flatMap((text) =>
    text === undefined || text.toString() === OWN ? [] : [`read ${JSON.stringify(text.toString())}`],
  )
}
