// The images that are pulled, in a real registry on loopback: a Debian root made by mmdebstrap, and 50,000 small files.
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { buildImage, buildTar, writeOciLayout } from '../../packages/loam/src/testing/index.ts'
import { run } from './tools.ts'

const SMALL_FILES = 50_000
const FILES_IN_FOLDER = 100

/** A registry with the images; ended by `stop`. */
export interface BenchRegistry {
  readonly host: string
  readonly images: Readonly<Record<string, string>>
  readonly stop: () => void
}

export async function startRegistry(folder: string, port: number): Promise<BenchRegistry> {
  mkdirSync(folder, { recursive: true })
  const config = join(folder, 'registry.yml')
  writeFileSync(
    config,
    `version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: ${folder}/registry\nhttp:\n  addr: 127.0.0.1:${port}\nlog:\n  level: error\n`,
  )
  const child = spawn('docker-registry', ['serve', config], { stdio: 'ignore' })
  const host = `127.0.0.1:${port}`
  await sleep(1000)
  const images = { debian: `${host}/debian:bench`, 'small-files': `${host}/small-files:bench` }
  pushDebian(folder, images.debian)
  pushSmallFiles(folder, images['small-files'])
  return { host, images, stop: () => child.kill() }
}

function pushDebian(folder: string, image: string): void {
  const tar = join(folder, 'debian.tar')
  if (!existsSync(tar))
    run(`mmdebstrap --quiet --variant=minbase --include=perl,python3,git,ca-certificates bookworm ${tar}`)
  push(folder, 'debian', readFileSync(tar), image)
}

function pushSmallFiles(folder: string, image: string): void {
  const entries = Array.from({ length: SMALL_FILES }, (_value, index) => {
    const directory = `data/${Math.floor(index / FILES_IN_FOLDER)}`
    const file = {
      name: `${directory}/file-${index}.js`,
      data: `// file ${index}\n${'export const x = 1\n'.repeat(index % 200)}`,
    }
    return index % FILES_IN_FOLDER === 0 ? [{ name: `${directory}/` }, file] : [file]
  })
  push(folder, 'small-files', buildTar([{ name: 'data/' }, ...entries.flat()]), image)
}

function push(folder: string, name: string, tar: Buffer, image: string): void {
  const layout = join(folder, `layout-${name}`)
  if (!existsSync(layout))
    writeOciLayout(layout, { bench: buildImage({ tars: [tar], config: { Cmd: ['/bin/sh'] } }) })
  run(`skopeo copy -q --dest-tls-verify=false oci:${layout}:bench docker://${image}`)
}
