// Builds the dist of the package in whose folder it is called: plain tsc output, after the old one is gone, so that no deleted module
// stays in. The library takes the workspace's README and licence along.
import { spawnSync } from 'node:child_process'
import { copyFileSync, rmSync } from 'node:fs'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'

const name = basename(process.cwd())
const packageDir = fileURLToPath(new URL(`../packages/${name}/`, import.meta.url))
const shared = name === 'loam' ? ['README.md', 'LICENSE'] : ['LICENSE']
for (const file of shared) copyFileSync(`${packageDir}../../${file}`, `${packageDir}${file}`)
rmSync(`${packageDir}dist`, { recursive: true, force: true })
const { status } = spawnSync('tsc', ['-p', `${packageDir}tsconfig.build.json`], {
  stdio: 'inherit',
})
process.exitCode = status ?? 1
