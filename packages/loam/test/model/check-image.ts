// Random images, and Loam's result in every backend and export, compared with the model.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { openLoam } from '../../src/index.ts'
import { mountErofs, unmountAll } from '../../src/linux/index.ts'
import { buildImage, listTree, writeOciLayout } from '../../src/testing/index.ts'
import type { Random } from '../faults/random.ts'
import { difference } from './difference.ts'
import { listModel, onlyShared } from './image-model.ts'
import type { RandomImage } from './random-image.ts'

export type Loam = Awaited<ReturnType<typeof openLoam>>

/** Comparisons in addition to the backends. */
export interface CheckOptions {
  readonly folder: string
  readonly withExports: boolean
}

/** Opens a store in a folder. */
export async function openStore(root: string): Promise<Loam> {
  return openLoam({ file: null, flags: { root, state: `${root}-state` }, env: {} })
}

/** Returns the differences. Two stores: one that begins with erofs and reads its metadata images back, and one that begins with overlay. */
export async function checkImage(
  image: RandomImage,
  random: Random,
  options: CheckOptions,
): Promise<string[]> {
  const wrong: string[] = []
  const layout = join(options.folder, 'layout')
  const compression = random.pick(['gzip', 'none', 'zstd'] as const)
  // A shorter image shares its layers with the whole one, and is built from the artifacts of the first one.
  const half = 1 + random.below(image.tars.length)
  const tars = { whole: image.tars, part: image.tars.slice(0, half) }
  writeOciLayout(layout, {
    whole: buildImage({ tars: tars.whole, compression }),
    part: buildImage({ tars: tars.part, compression }),
  })
  const expected = {
    whole: listModel(image.trees.at(-1) ?? fail()),
    part: listModel(image.trees[half - 1] ?? fail()),
  }
  const orders = [
    ['erofs', 'copy', 'overlay'],
    ['overlay', 'erofs', 'copy'],
  ] as const
  for (const [index, backends] of orders.entries()) {
    const root = join(options.folder, `store-${index}`)
    const check = async (loam: Loam, name: 'whole' | 'part', only: readonly string[]) => {
      for (const backend of only) {
        const what = `${backend} of ${name}, store that began with ${backends[0]}`
        wrong.push(
          ...(await attempt(what, async () =>
            checkBackend(loam, `oci:${layout}:${name}`, { backend, expected: expected[name], what }),
          )),
        )
      }
    }
    {
      await using loam = await openStore(root)
      await check(loam, 'whole', backends.slice(0, 1))
    }
    // A store that is opened again has only the layers' metadata images.
    await using loam = await openStore(root)
    await check(loam, 'part', backends)
    await check(loam, 'whole', backends.slice(1))
    if (image.tars.length === 1) await check(loam, 'whole', ['bind'])
    if (index === 0 && options.withExports) {
      for (const format of ['erofs', 'tar', 'oci', 'ext4'] as const) {
        const what = `export as ${format}`
        wrong.push(
          ...(await attempt(what, async () => {
            const listed = await listExport(loam, `oci:${layout}:whole`, { format, folder: options.folder })
            return difference(what, onlyShared(listed), expected.whole)
          })),
        )
      }
    }
  }
  if (!image.isDisputed && compression !== 'zstd')
    wrong.push(...compareWithUmoci(layout, expected.whole, options.folder))
  return wrong
}

/** umoci gives directories the time of unpacking, and drops empty xattrs; its refusals prove nothing. */
function compareWithUmoci(layout: string, expected: readonly string[], folder: string): string[] {
  const bundle = join(folder, 'bundle')
  const { status } = spawnSync('umoci', ['unpack', '--image', `${layout}:whole`, bundle])
  if (status !== 0) return []
  const comparable = (lines: readonly string[]) =>
    lines.map((line) =>
      line.replace(/^("(?:[^"\\]|\\.)*" 4\d{4} .*) t=-?\d+/, '$1').replaceAll(/ [^ ]+=(?= |$)/g, ''),
    )
  const listed = onlyShared(listTree(join(bundle, 'rootfs')))
  return difference('umoci unpack', comparable(listed), comparable(expected))
}

function fail(): never {
  throw new Error('an image without layers')
}

/** An error is a finding, too. */
export async function attempt(what: string, act: () => Promise<string[]>): Promise<string[]> {
  try {
    return await act()
  } catch (error) {
    return [`${what}: ${error instanceof Error ? error.message : String(error)}`]
  }
}

async function checkBackend(
  loam: Loam,
  image: string,
  { backend, expected, what }: { backend: string; expected: readonly string[]; what: string },
): Promise<string[]> {
  const { rootfsPath } = await loam.provision(image, { id: 'c', backend, isReadOnly: true })
  try {
    return difference(what, onlyShared(listTree(rootfsPath)), expected)
  } finally {
    await loam.destroy('c')
  }
}

/** Exports an image or a container, and lists the content of the output. */
export async function listExport(
  loam: Loam,
  name: string,
  { format, folder }: { format: 'erofs' | 'tar' | 'oci' | 'ext4'; folder: string },
): Promise<string[]> {
  const output = join(folder, `export.${format}`)
  const target = join(folder, `shown-${format}`)
  try {
    await loam.export(name, { format, output })
    if (format === 'oci') return await listLayout(output, target)
    mkdirSync(target)
    if (format === 'erofs') mountErofs({ image: output, devices: [], target })
    else if (format === 'ext4') run('mount', '-o', 'loop,ro', output, target)
    else run('tar', '-C', target, '--xattrs', '--xattrs-include=*', '--numeric-owner', '-xpf', output)
    const listed = listTree(target)
    // mke2fs creates it.
    return format === 'ext4' ? listed.filter((line) => !line.startsWith('"lost+found"')) : listed
  } finally {
    if (existsSync(target)) unmountAll(target)
    for (const path of [output, target]) rmSync(path, { recursive: true, force: true })
  }
}

async function listLayout(layout: string, store: string): Promise<string[]> {
  await using loam = await openStore(store)
  const { rootfsPath } = await loam.provision(`oci:${layout}`, { id: 'c', backend: 'copy', isReadOnly: true })
  const listed = listTree(rootfsPath)
  await loam.destroy('c')
  return listed
}

export function run(program: string, ...args: readonly string[]): void {
  const { status, stderr } = spawnSync(program, args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${program}: ${stderr}`)
}
