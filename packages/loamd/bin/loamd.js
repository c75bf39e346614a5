#!/usr/bin/env node
// Plain JavaScript without new syntax, so that an old Node can read it and say what is wrong.
import { existsSync } from 'node:fs'
import module from 'node:module'

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < 24 || (major === 24 && minor < 15)) {
  process.stderr.write(`loamd: needs Node 24.15 or newer, and this is ${process.version}\n`)
  process.exit(1)
}

// A checkout runs its sources, so that nobody debugs a stale build; a package has none and runs dist.
const source = new URL('../src/main.ts', import.meta.url)
const library = new URL('../../loam/src/index.ts', import.meta.url)
if (existsSync(source) && existsSync(library)) {
  module.registerHooks({
    resolve: (specifier, context, next) =>
      specifier === 'loamfs' ? { url: library.href, shortCircuit: true } : next(specifier, context),
  })
  const { main } = await import(source.href)
  await main(process.argv.slice(2))
} else {
  const { main } = await import('../dist/main.js')
  await main(process.argv.slice(2))
}
