// The images that are pulled, in a real registry on loopback: busybox alone; a Debian root made by mmdebstrap, one layer; busybox and
// 45,000 small files in five layers; 1 GB of large binaries of this machine, in three; 48 layers of 40 KB; and two of these with zstd.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  type BuildCompression,
  buildImage,
  buildTar,
  writeOciLayout,
} from '../../packages/loam/src/testing/index.ts'
import { DebianRegistry } from '../../packages/loam/test/support/debian-registry.ts'
import { run } from './tools.ts'

const SMALL_FILES = 45_000
const SMALL_LAYERS = 5
const FILES_IN_FOLDER = 100
const LARGE_LAYER_BYTES = 340_000_000
const LARGE_LAYERS = 3
const MANY_LAYERS = 48
const FILES_OF_MANY = 8

/** The content of each image, and the compression of its layers. */
const IMAGES = {
  tiny: { makeTars: () => [buildTar(SHELL)], compression: 'gzip' },
  debian: { makeTars: (folder) => [readDebian(folder)], compression: 'gzip' },
  'small-files': { makeTars: createSmallFiles, compression: 'gzip' },
  'large-binaries': { makeTars: createLargeBinaries, compression: 'gzip' },
  'many-layers': { makeTars: createManyLayers, compression: 'gzip' },
  'debian-zstd': { makeTars: (folder) => [readDebian(folder)], compression: 'zstd' },
  'small-files-zstd': { makeTars: createSmallFiles, compression: 'zstd' },
} as const satisfies Record<string, ImageContents>

interface ImageContents {
  readonly makeTars: (folder: string) => Buffer[]
  readonly compression: BuildCompression
}

export type ImageName = keyof typeof IMAGES

export const IMAGE_NAMES = Object.keys(IMAGES) as ImageName[]

/** A registry with the images; ended by `stop`. */
export interface BenchRegistry {
  readonly host: string
  /** Returns the reference of an image, which is made and pushed when it is first asked for. */
  readonly image: (name: ImageName) => string
  readonly stop: () => void
}

export async function startRegistry(folder: string): Promise<BenchRegistry> {
  mkdirSync(folder, { recursive: true })
  // Its images are kept for the next time.
  const storage = { filesystem: { rootdirectory: join(folder, 'registry') } }
  const registry = await DebianRegistry.start({ rest: { storage } })
  const { host } = registry
  const pushed = new Set<ImageName>()
  return {
    host,
    image: (name) => {
      const reference = `${host}/${name}:bench`
      if (!pushed.has(name)) push(folder, name, reference)
      pushed.add(name)
      return reference
    },
    stop: () => {
      registry[Symbol.dispose]()
    },
  }
}

const SHELL = [{ name: 'bin/' }, { name: 'bin/busybox', data: readFileSync('/bin/busybox'), mode: 0o755 }]

function readDebian(folder: string): Buffer {
  const tar = join(folder, 'debian.tar')
  if (!existsSync(tar))
    run(`mmdebstrap --quiet --variant=minbase --include=perl,python3,git,ca-certificates bookworm ${tar}`)
  return readFileSync(tar)
}

/** Sources as they lie in a node_modules: 12 KB each on average, four fifths of it compressible. */
function createSmallFiles(): Buffer[] {
  const perLayer = SMALL_FILES / SMALL_LAYERS
  return Array.from({ length: SMALL_LAYERS }, (_layer, layer) => {
    const entries = Array.from({ length: perLayer }, (_file, index) => {
      const directory = `layer-${layer}/${Math.floor(index / FILES_IN_FOLDER)}`
      const file = { name: `${directory}/file-${index}.js`, data: createText(layer * perLayer + index) }
      return index % FILES_IN_FOLDER === 0 ? [{ name: `${directory}/` }, file] : [file]
    })
    const shell = layer === 0 ? SHELL : []
    return buildTar([...shell, { name: `layer-${layer}/` }, ...entries.flat()])
  })
}

const WORDS = [
  'const',
  'value',
  'return',
  'function',
  'export',
  'import',
  'await',
  'index',
  'this',
  'error',
  '=>',
  '===',
]

function createText(seed: number): string {
  let state = seed + 1
  const next = (range: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff
    return (state >>> 8) % range
  }
  const words = Array.from({ length: 200 + next(3600) }, () =>
    next(6) === 0 ? next(1 << 22).toString(36) : WORDS[next(WORDS.length)],
  )
  return words.join(' ')
}

function createManyLayers(): Buffer[] {
  return Array.from({ length: MANY_LAYERS }, (_layer, layer) => {
    const files = Array.from({ length: FILES_OF_MANY }, (_file, index) => ({
      name: `layer-${layer}/file-${index}`,
      data: createText(layer * FILES_OF_MANY + index),
    }))
    return buildTar([...(layer === 0 ? SHELL : []), { name: `layer-${layer}/` }, ...files])
  })
}

/** Programs and libraries of this machine, over and over until they are 1 GB. */
function createLargeBinaries(): Buffer[] {
  const found = execFileSync('find', ['/usr/bin', '/usr/lib', '-xdev', '-type', 'f', '-size', '+2M'], {
    encoding: 'utf8',
  })
  const paths = found
    .split('\n')
    .filter(Boolean)
    .toSorted((a, b) => (a < b ? -1 : 1))
  let at = 0
  return Array.from({ length: LARGE_LAYERS }, (_layer, layer) => {
    const entries: { name: string; data: Buffer; mode: number }[] = []
    for (let bytes = 0; bytes < LARGE_LAYER_BYTES; at += 1) {
      const data = readFileSync(paths[at % paths.length] ?? '')
      bytes += data.length
      entries.push({ name: `bin-${layer}/${at}`, data, mode: 0o755 })
    }
    return buildTar([{ name: `bin-${layer}/` }, ...entries])
  })
}

function push(folder: string, name: ImageName, reference: string): void {
  const layout = join(folder, `layout-${name}`)
  if (!existsSync(layout)) {
    const { makeTars, compression } = IMAGES[name]
    const config = { Cmd: ['/bin/sh'] }
    writeOciLayout(layout, { bench: buildImage({ tars: makeTars(folder), compression, config }) })
  }
  run(`skopeo copy -q --dest-tls-verify=false oci:${layout}:bench docker://${reference}`)
}
