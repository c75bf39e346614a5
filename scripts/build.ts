// Builds the dist of the package in whose directory it is called: bundles with their source maps, the types, and man pages. The library takes the
// workspace's README and licence along.
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { manPages, packageEdition } from './man-pages.ts'

const PAGES: Readonly<Record<string, readonly string[]>> = {
  loam: ['loam.1', 'loam-config.toml.5'],
  loamd: ['loamd.8'],
}

const workspace = fileURLToPath(new URL('..', import.meta.url))
const name = basename(process.cwd())
const packageDir = `${workspace}packages/${name}/`
const shared = name === 'loam' ? ['README.md', 'LICENSE'] : ['LICENSE']
for (const file of shared) copyFileSync(`${workspace}${file}`, `${packageDir}${file}`)
rmSync(`${packageDir}dist`, { recursive: true, force: true })
run(`${workspace}tools/node_modules/.bin/rolldown`, '--config')
run('tsc', '--project', 'tsconfig.build.json')
run(`${workspace}tools/node_modules/.bin/rolldown`, '--config', `${workspace}scripts/roll-up-types.config.js`)
rmSync(`${packageDir}dist/types`, { recursive: true, force: true })

// The pages that npm installs; scripts/debian-package.ts takes all of them.
for (const { file, text } of manPages(packageEdition())) {
  if (!PAGES[name]?.includes(file)) continue
  mkdirSync(`${packageDir}man`, { recursive: true })
  writeFileSync(`${packageDir}man/${file}`, text)
}

function run(command: string, ...args: readonly string[]): void {
  const { status, stdout } = spawnSync(command, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
  })
  if (status === 0) return
  console.error(stdout)
  process.exitCode = 1
}
