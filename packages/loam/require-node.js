import { existsSync } from 'node:fs'

/** Throws where Node cannot read the library: it would only report the syntax. The command does not need this, since it brings its own Node. */
export function requireNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  if (major < 24 || (major === 24 && minor < 15))
    throw new Error(`loamfs: the library needs Node 24.15 or newer, and this is ${process.version}`)
}

/** Returns the address of the first file that exists. Throws where there is none: a bundler has taken the caller into a program, without them. */
export function findLibrary(files, base) {
  const found = files.map((file) => new URL(file, base)).find((url) => existsSync(url))
  if (found !== undefined) return found.href
  throw new Error(
    'loamfs: it cannot be part of a bundle, because it starts threads from its own files and loads a binary. ' +
      'Keep it external: esbuild --external:loamfs, or external: ["loamfs"] elsewhere',
  )
}
