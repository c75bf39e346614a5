/** Throws where Node cannot read the library: it would only report the syntax. The command does not need this, since it brings its own Node. */
export function requireNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  if (major < 24 || (major === 24 && minor < 15))
    throw new Error(`loamfs: the library needs Node 24.15 or newer, and this is ${process.version}`)
}
