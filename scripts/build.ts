// Builds packages/loam/dist: plain tsc output, after the old one is gone, so that no deleted module stays in. The package takes
// the workspace's README and licence along.
import { spawnSync } from 'node:child_process'
import { copyFileSync, rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const packageDir = fileURLToPath(new URL('../packages/loam/', import.meta.url))
for (const name of ['README.md', 'LICENSE'])
  copyFileSync(`${packageDir}../../${name}`, `${packageDir}${name}`)
rmSync(`${packageDir}dist`, { recursive: true, force: true })
const { status } = spawnSync('tsc', ['-p', `${packageDir}tsconfig.build.json`], {
  stdio: 'inherit',
})
process.exitCode = status ?? 1
