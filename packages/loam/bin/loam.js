#!/usr/bin/env sh
':' //; eval "exec node -- \"\$0\" @$(_n=0; for _ do _n=$((_n + 1)); printf ' ".${%d}"' $_n; done)"
// A shell runs the line above, and JavaScript passes over it. Node looks for some of its own options in the whole command line, also behind
// the script's name and behind `--` (--env-file, --experimental-config-file), and runs the code that those files name: words that are
// meant for a container would be code on the host. So no word reaches Node as it was written: each has a dot in front of it.
// Plain JavaScript without new syntax, so that an old Node can read it and say what is wrong.
import { existsSync, readFileSync } from 'node:fs'
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

const [marker, ...words] = process.argv.slice(2)
const isShielded = marker === '@'
const args = isShielded ? words.map((word) => word.slice(1)) : process.argv.slice(2)
// Started as `node loam.js`: what Node has obeyed cannot be undone, but it is not passed over in silence.
const obeyed = isShielded
  ? undefined
  : args.find((arg) => /^--(?:env-file|experimental-.*config-file)/.test(arg))
if (obeyed !== undefined) {
  process.stderr.write(
    `loam: refuse ${JSON.stringify(obeyed)}: Node takes this option for its own, wherever it stands\n` +
      'hint: Start the program itself (loam …), not `node loam.js …`.\n',
  )
  process.exit(2)
}

// A checkout runs its sources, so that nobody debugs a stale build; a package has none and runs dist.
const source = new URL('../src/cli/main.ts', import.meta.url)
const isCheckout = existsSync(source)
// Sources without their types are kept for the next time. In the checkout's own folder: Node's default lies where other
// users may write, and what is found there would be run.
if (isCheckout)
  module.enableCompileCache(fileURLToPath(new URL('../../../node_modules/.cache/compiled', import.meta.url)))
const { main } = await import(isCheckout ? source.href : '../dist/main.js')
await main(args, JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version)
