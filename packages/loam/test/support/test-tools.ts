// Files that tests keep between runs: in their own checkout, so that those of another one are never used.
import { mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

/** Folder that scripts/fetch-test-tools.sh fills, too. */
const FOLDER = fileURLToPath(new URL('../../../../.cache/test-tools', import.meta.url))

/** Returns the path of a kept file, and creates its directory. */
export function testTool(...parts: readonly string[]): string {
  mkdirSync(FOLDER, { recursive: true })
  return join(FOLDER, ...parts)
}

/**
 * Returns the path of a program that tests start: of the built packages if scripts/installed-programs.ts has built them, else of the
 * checkout, which runs its sources and starts at half the speed.
 */
export function programPath(name: 'loam' | 'loamd'): string {
  return (
    process.env[name === 'loam' ? 'INSTALLED_LOAM' : 'INSTALLED_LOAMD'] ??
    fileURLToPath(
      new URL(`../../../${name}/bin/${name === 'loam' ? 'loam.cjs' : 'loamd.js'}`, import.meta.url),
    )
  )
}

/** Returns the address of the library that goes with `programPath`, for programs that tests write. */
export function libraryAddress(): string {
  return pathToFileURL(join(dirname(programPath('loam')), '../index.js')).href
}

/** Returns the address of the module of the command's `main` that `programPath` runs. */
export function commandModule(): string {
  const built = new URL('../dist/main.js', pathToFileURL(programPath('loam')))
  return process.env['INSTALLED_LOAM'] === undefined
    ? new URL('../../src/cli/main.ts', import.meta.url).href
    : built.href
}
