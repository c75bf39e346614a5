// Rolls up the declarations of the package in whose directory it is called: from dist/types, where tsc has written one file for each
// source, to one file for each way in and what they share. So the package shows nothing that is not exported.
import { existsSync, readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { dts } from '../tools/node_modules/rolldown-plugin-dts/dist/index.mjs'

const { exports } = JSON.parse(readFileSync('package.json', 'utf8'))

export default {
  input: Object.fromEntries(
    Object.values(exports).map(({ types }) => {
      const name = basename(types, '.d.ts')
      const file = `./dist/types/${name}.d.ts`
      return [name, existsSync(file) ? file : `./dist/types/${name}/index.d.ts`]
    }),
  ),
  plugins: [dts({ dtsOnly: true, tsconfig: false })],
  external: (id) => !/^[./]/.test(id),
  output: { dir: 'dist', format: 'esm' },
  checks: { pluginTimings: false },
}
