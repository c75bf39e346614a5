#!/usr/bin/env node
// Plain JavaScript without new syntax, so that an old Node can read it and say what is wrong.
import { existsSync } from 'node:fs'
import module from 'node:module'
import { fileURLToPath } from 'node:url'

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < 24 || (major === 24 && minor < 15)) {
  process.stderr.write(
    `loam: needs Node 24.15 or newer, and this is ${process.version}\n` +
      'hint: in a checkout, `npm ci` installs the pinned Node and `npx loam` uses it\n',
  )
  process.exit(1)
}

// A checkout runs its sources, so that nobody debugs a stale build; a package has none and runs dist.
const source = new URL('../src/cli/main.ts', import.meta.url)
const isCheckout = existsSync(source)
// Sources without their types are kept for the next time. In the checkout's own folder: Node's default lies where other
// users may write, and what is found there would be run.
if (isCheckout)
  module.enableCompileCache(fileURLToPath(new URL('../../../node_modules/.cache/compiled', import.meta.url)))
const { main } = await import(isCheckout ? source.href : '../dist/cli/main.js')
await main(process.argv.slice(2))
