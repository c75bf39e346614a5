#!/usr/bin/env sh
':' //; _d=$(readlink -f -- "$0"); _d=${_d%/*/*}; _node=node; for _f in "$_d"/node_modules/node-linux-*/bin/node "$_d"/../../node_modules/node-linux-*/bin/node; do if [ -x "$_f" ] && { [ -e /lib64/ld-linux-x86-64.so.2 ] || [ -e /lib/ld-linux-aarch64.so.1 ]; }; then _node=$_f; break; fi; done; command -v "$_node" >/dev/null || { echo "loamd: needs Node 24.15 or newer, and none is installed" >&2; echo "hint: Install it again without --omit=optional: then it brings Node (npm install --global loamd)." >&2; exit 127; }; eval "exec \"\$_node\" --max-semi-space-size=4 -- \"\$0\" @$(_n=0; for _ do _n=$((_n + 1)); printf ' ".${%d}"' $_n; done)"
// Takes the package's own Node, and hides every word from it, for the reasons that loam.cjs gives. The option: see NODE_OPTIONS in src/systemd/install.ts.
// Plain JavaScript without new syntax, so that an old Node can read it and report its version as too old.
import { existsSync } from 'node:fs'
import module from 'node:module'

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < 24 || (major === 24 && minor < 15)) {
  process.stderr.write(
    `loamd: needs Node 24.15 or newer, and this is ${process.version}\n` +
      'hint: Install it again without --omit=optional: then it brings Node (npm install --global loamd; in a checkout: npm ci).\n',
  )
  process.exit(1)
}

const [marker, ...words] = process.argv.slice(2)
const isShielded = marker === '@'
const args = isShielded ? words.map((word) => word.slice(1)) : process.argv.slice(2)
// Started as `node loamd.js`: options that Node has obeyed cannot be undone, so they are reported.
const obeyed = isShielded
  ? undefined
  : args.find((arg) => /^--(?:env-file|experimental-.*config-file)/.test(arg))
if (obeyed !== undefined) {
  process.stderr.write(
    `loamd: refuse ${JSON.stringify(obeyed)}: Node takes this option for its own, wherever it stands\n` +
      'hint: Start the program itself (loamd …), not `node loamd.js …`.\n',
  )
  process.exit(2)
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
  await main(args)
} else {
  const { main } = await import('../dist/main.js')
  await main(args)
}
