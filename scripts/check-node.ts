// The pinned Node comes as an optional dependency, and npm skips a failed optional dependency
// without a word: then every test would run under the machine's own Node.
import { readFileSync } from 'node:fs'

const root = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
  optionalDependencies: Record<string, string>
}
const pinned = `v${root.optionalDependencies[`node-linux-${process.arch}`]}`
const runsAnyNode = process.env['LOAM_ANY_NODE'] === '1'

if (process.version !== pinned && !runsAnyNode) {
  console.error(
    `this runs under Node ${process.version}, and the project pins ${pinned}\n` +
      'hint: run `npm ci`, then go through npm (`npm test`, `npx loam`), which puts the pinned Node first',
  )
  process.exitCode = 1
}
